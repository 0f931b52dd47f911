package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"syscall"
)

// lookUp looks for the command as a shell would, before anything is attached.
func lookUp(name string) error {
	_, err := exec.LookPath(name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return &failure{statusNotExecutable, fmt.Errorf("%s: permission denied", name), "make it executable: chmod +x " + name}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound), errors.Is(err, exec.ErrDot):
		return &failure{statusNotFound, fmt.Errorf("%s: command not found", name), "a program in this folder needs ./ in front; others are looked for in $PATH"}
	}
	return &failure{statusNotExecutable, fmt.Errorf("%s: %w", name, err), "see execve(2)"}
}

// notRun gives a command that could not be started the statuses of a shell.
func notRun(name string, err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &failure{statusNotFound, fmt.Errorf("%s: %w", name, err), "the file is there, but not the interpreter in its first line, or its loader"}
	case errors.Is(err, syscall.ENOEXEC), errors.Is(err, fs.ErrPermission) && errors.As(err, &errno):
		return &failure{statusNotExecutable, fmt.Errorf("%s: %w", name, err), "a script needs a first line like #!/bin/sh"}
	}
	return err
}

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/wire"
)

// agentProgram is looked for beside our own program first, then in $PATH.
const agentProgram = "magpie-agent"

// enter returns a pipe to the agent of the target on this host: an agent that runs is joined, else one is started.
// Only root can do that, so the knocking is done by `magpie-agent join`, through sudo unless we are root, which
// then lends us the pipe over a socket in a folder of ours.
func enter(ctx context.Context, target string, linger time.Duration) (net.Conn, error) {
	program, err := findAgent()
	if err != nil {
		return nil, err
	}
	dir, err := tempDir()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	defer os.RemoveAll(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "pipe"), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	defer l.Close()
	join, err := asRoot(ctx, program, "join", "--target", target, "--linger", linger.String(), "--lend-to", l.Addr().String())
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	join.Stderr = &said
	if err := join.Start(); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	exited := make(chan error, 1)
	go func() {
		err := join.Wait()
		// It has said all it had to say: one that said nothing leaves nothing to wait for.
		_ = l.SetDeadline(time.Now().Add(50 * time.Millisecond))
		exited <- err
	}()
	pipe, err := lent(ctx, l)
	select {
	case ended := <-exited: // sudo may change the terminal until it ends
		if err != nil {
			return nil, joinFailed(ctx, err, ended, said.String())
		}
		return pipe, nil
	case <-ctx.Done(): // it cannot be killed by whom it serves
		if err == nil {
			pipe.Close()
		}
		return nil, ctx.Err()
	}
}

// maxSocketPath is what fits into sun_path with its final zero, unix(7).
const maxSocketPath = 107

// tempDir makes a folder for a socket: in $TMPDIR, unless that is too deep for one.
func tempDir() (string, error) {
	base := os.TempDir()
	if len(filepath.Join(base, "magpie-1234567890", "pipe")) > maxSocketPath {
		base = "/tmp"
	}
	return os.MkdirTemp(base, "magpie-")
}

var past = time.Unix(1, 0)

// joinFailed says why there is no pipe, in the words of whoever knew best.
func joinFailed(ctx context.Context, err, ended error, said string) error {
	var refused *wire.Error
	switch {
	case errors.As(err, &refused):
		return refused
	case ctx.Err() != nil:
		return ctx.Err()
	case ended == nil:
		return fmt.Errorf("agent: %w", err)
	}
	last := strings.TrimSpace(said)
	if i := strings.LastIndexByte(last, '\n'); i >= 0 {
		last = last[i+1:]
	}
	return &wire.Error{
		Cause:  fmt.Sprintf("agent: not started: %s", strings.TrimSpace(last+" ("+ended.Error()+")")),
		Advice: "the agent needs root on this machine: run magpie as root, or as a user whom sudo lets run " + agentProgram,
		Errno:  unix.EPERM,
	}
}

// lent waits for the pipe, and takes it from root alone.
func lent(ctx context.Context, l *net.UnixListener) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { _ = l.SetDeadline(past) })()
	from, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer from.Close()
	defer context.AfterFunc(ctx, func() { _ = from.SetDeadline(past) })()
	raw, err := from.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(cerr, err); err != nil {
		return nil, err
	}
	if cred.Uid != 0 {
		return nil, fmt.Errorf("a pipe was offered by user %d, not by root: %w", cred.Uid, fs.ErrPermission)
	}
	return wire.ReceivePipe(from)
}

// asRoot returns the command to run a program as root.
func asRoot(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	if os.Geteuid() == 0 {
		return exec.CommandContext(ctx, program, args...), nil
	}
	sudo, err := exec.LookPath("sudo")
	if err != nil {
		return nil, &wire.Error{
			Cause:  "agent: needs root on this machine, and there is no sudo",
			Advice: "run magpie as root, or install sudo, or name the socket of an agent that runs with --agent",
			Errno:  unix.EPERM,
		}
	}
	// sudo asks for a password on the terminal itself; its standard input is not needed.
	return exec.CommandContext(ctx, sudo, append([]string{"-p", "[sudo] password for %p, to start the Magpie agent: ", program}, args...)...), nil
}

func findAgent() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), agentProgram)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	found, err := exec.LookPath(agentProgram)
	if err != nil {
		return "", &wire.Error{
			Cause:  fmt.Sprintf("agent: %s is neither beside magpie nor in $PATH", agentProgram),
			Advice: "build both with 'make build' and keep them in one folder",
			Errno:  unix.ENOENT,
		}
	}
	return filepath.Abs(found)
}

//go:build linux && (amd64 || arm64)

package unotify

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main runs the stage that this process was started as, and does not return then; else it does nothing. It must be the
// first call of main(), before flags are parsed and goroutines started.
func Main() {
	var run func(files int)
	switch os.Args[0] {
	case guardName:
		run = guardMain
	case launcherName:
		run = launcherMain
	default:
		return
	}
	if at, err := strconv.Atoi(os.Args[len(os.Args)-1]); err == nil {
		run(at)
	}
	os.Exit(statusStage)
}

// The stages of our own binary go by these names, in os.Args[0]; the argument is the number of their first descriptor.
const (
	guardName    = "magpie-guard"
	launcherName = "magpie-launcher"
)

// statusStage is the exit status of a stage that failed; the report says why.
const statusStage = 125

// forkStage starts a stage of our own binary. It gets std as 0 to 2 and files behind each other at a number that is free:
// a descriptor that we were started with reaches the program under its own number, as in `cmd 3<file`.
func forkStage(name, dir string, std [3]uintptr, files []uintptr, sys *syscall.SysProcAttr) (pid int, err error) {
	at := 3
	for n := at; n < at+len(files); n++ {
		if inherited(n) {
			at = n + 1
		}
	}
	all := std[:]
	for n := len(std); n < at; n++ {
		if inherited(n) {
			all = append(all, uintptr(n))
		} else {
			all = append(all, ^uintptr(0)) // closed
		}
	}
	all = append(all, files...)
	return syscall.ForkExec("/proc/self/exe", []string{name, strconv.Itoa(at)}, &syscall.ProcAttr{
		Dir: dir, Env: []string{}, Files: all, Sys: sys,
	})
}

// inherited reports whether fd would survive an exec: none of ours does.
func inherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

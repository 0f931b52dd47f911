//go:build linux && (amd64 || arm64)

package unotify

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killPause is how long the guard waits between two looks at a tree that it kills, for processes born meanwhile.
const killPause = 2 * time.Millisecond

// guardMain is the parent of the program, and as subreaper the one of every descendant that loses its own. It holds the
// notify descriptor too, so that no call comes back with ENOSYS when the supervisor dies; then it kills the tree, which
// cannot escape it. It ends when nobody is left. Its files are the tie to the supervisor, and the launcher's two.
func guardMain(files int) {
	runtime.LockOSThread() // The program dies with the thread that started it (PR_SET_PDEATHSIG): this one stays.
	for fd := files; fd < files+3; fd++ {
		unix.CloseOnExec(fd)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		os.Exit(statusStage)
	}
	pid, err := forkStage(launcherName, "", [3]uintptr{0, 1, 2}, []uintptr{uintptr(files + 1), uintptr(files + 2)},
		&syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL})
	if err != nil {
		os.Exit(statusStage)
	}
	catchSignals() // Not before: a Ctrl-C that comes when there is no program yet must end us, or nobody has heard it.
	letGo(files)
	held := make(chan struct{})
	go watchSupervisor(os.NewFile(uintptr(files), "supervisor"), held)
	reap(pid, files, held)
}

// catchSignals keeps the guard alive when the terminal signals the whole group. It catches and does not ignore, because
// what is ignored stays ignored in the program; and it leaves alone what was ignored before (nohup).
func catchSignals() {
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE} {
		if !signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// letGo gives up what only the program should hold: all descriptors but the tie, and its directory.
func letGo(tie int) {
	if null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		for fd := range 3 {
			_ = unix.Dup3(null, fd, 0)
		}
		unix.Close(null)
	}
	_ = unix.CloseRange(uint(tie+1), uint(tie+2), 0)
	closeInherited(tie)
	_ = unix.Chdir("/")
}

func closeInherited(tie int) {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, n := range names {
		if fd, err := strconv.Atoi(n.Name()); err == nil && fd > 2 && fd != tie && inherited(fd) {
			unix.Close(fd)
		}
	}
}

// watchSupervisor keeps the notify descriptor that comes, and kills the tree when the supervisor is gone. It closes held
// when either has happened.
func watchSupervisor(tie *os.File, held chan<- struct{}) {
	b := make([]byte, 1)
	n, _, err := receiveFD(tie, b)
	close(held)
	for n > 0 && err == nil {
		n, _, err = receiveFD(tie, b)
	}
	for {
		all, _ := descendants(os.Getpid())
		for _, pid := range all {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(killPause) // reap ends the process when all are gone
	}
}

// reap waits for every descendant, reports the end of the program itself, and ends with the last. Before that the
// supervisor's message must have been read: one that is left in the socket would make its end a reset.
func reap(program, tie int, held <-chan struct{}) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // ECHILD
			<-held
			os.Exit(0)
		case pid == program:
			s := uint32(status)
			_, _ = unix.Write(tie, []byte{byte(s), byte(s >> 8), byte(s >> 16), byte(s >> 24)})
		}
	}
}

//go:build linux && (amd64 || arm64)

package unotify

import (
	"encoding/gob"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	opFilter  = "install filter"
	probeWord = "magpie: may you read this?"
)

// launcherMain puts the filter on its own thread and becomes the program. Its files are the socket to the supervisor and
// the spec.
func launcherMain(files int) {
	runtime.LockOSThread() // The filter belongs to the thread; exec keeps this thread and ends all others.
	unix.CloseOnExec(files)
	unix.CloseOnExec(files + 1)
	sock := os.NewFile(uintptr(files), "supervisor")
	var s spec
	if err := gob.NewDecoder(os.NewFile(uintptr(files+1), "program")).Decode(&s); err != nil {
		leave(files, "read program", unix.EPROTO)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		leave(files, "set no_new_privs", err)
	}

	// Sending the descriptor is itself a call that the filter stops. So another thread, which the filter does not
	// cover, waits for it.
	fds, parked := make(chan int), make(chan struct{})
	go sendNotify(sock, fds, parked)
	<-parked
	fd, errno := install(s.Filter)
	if errno != 0 {
		leave(files, opFilter, errno)
	}
	fds <- fd

	// Syscall, not RawSyscall: with one processor the sender would never run.
	var ack [1]byte
	if n, err := sock.Read(ack[:]); n != 1 || err != nil {
		os.Exit(statusStage) // nobody will answer our calls
	}
	// Exec also gives back the limit of open files that the Go runtime had raised.
	leave(files, "exec", syscall.Exec(s.Path, s.Args, s.Env))
}

func sendNotify(sock *os.File, fds <-chan int, parked chan<- struct{}) {
	runtime.LockOSThread()
	close(parked)
	word := []byte(probeWord)
	msg, err := json.Marshal(report{Pid: os.Getpid(), Probe: uint64(uintptr(unsafe.Pointer(&word[0])))})
	if err == nil {
		err = sendFD(sock, <-fds, msg)
	}
	if err != nil {
		os.Exit(statusStage)
	}
	select {} // word stays, and the thread with it, until exec
}

// install puts the filter on this thread only, and returns the notify descriptor, which closes on exec.
func install(filter []unix.SockFilter) (int, syscall.Errno) {
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&prog)))
	return int(fd), errno
}

// leave reports and ends the stage. It writes with write(2), which no filter of ours stops.
func leave(socket int, op string, err error) {
	errno := unix.EIO
	errors.As(err, &errno)
	msg, _ := json.Marshal(report{Op: op, Errno: errno}) // a string and a number
	_, _ = syscall.Write(socket, msg)
	os.Exit(statusStage)
}

package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// errLeft says that fn ended its goroutine (runtime.Goexit, as t.FailNow does) instead of returning.
var errLeft = errors.New("function left without returning")

// elsewhere runs fn on a thread of our own namespace, which the caller's may not be in just now.
func elsewhere(fn func() error) error {
	done := make(chan error)
	go func() {
		err := errLeft
		defer func() { done <- err }()
		err = fn()
	}()
	return <-done
}

// onThread runs fn on an OS thread of its own and puts the thread back where it came from. A thread that cannot come back ends with its goroutine,
// so no other goroutine ever wakes up in a namespace that it did not ask for.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go lockedRun(fn, done)
	return <-done
}

func lockedRun(fn func() error, done chan<- error) {
	runtime.LockOSThread()
	// The main thread cannot end, and /proc/self shows its namespace to all: never take it.
	if unix.Gettid() == os.Getpid() {
		done <- onThread(fn) // this goroutine holds the main thread meanwhile
		runtime.UnlockOSThread()
		return
	}
	err := errLeft
	defer func() { done <- err }()
	home, openErr := os.Open(ofThread)
	if openErr != nil {
		runtime.UnlockOSThread()
		err = fmt.Errorf("open own netns: %w", openErr)
		return
	}
	defer home.Close()
	defer func() {
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	err = fn()
}

package target

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on a thread of its own, which fn may send into other namespaces: it ends with fn.
func onThread(fn func() error) error {
	done := make(chan error)
	go lockedRun(fn, done)
	return <-done
}

func lockedRun(fn func() error, done chan<- error) {
	runtime.LockOSThread()
	// The main thread cannot end, and /proc/self shows its namespaces to all: never take it.
	if unix.Gettid() == os.Getpid() {
		err := onThread(fn) // this goroutine holds the main thread meanwhile
		runtime.UnlockOSThread()
		done <- err
		return
	}
	done <- fn()
}

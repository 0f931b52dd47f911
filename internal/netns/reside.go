package netns

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// residentThreads is how many threads reside in a namespace: what is done there takes microseconds, but some of it reads files.
const residentThreads = 4

// residents are threads that went into a namespace for good. The zero value is none.
type residents struct {
	work    chan task
	running sync.WaitGroup

	mu   sync.RWMutex // keeps work open while somebody sends
	left bool
}

type task struct {
	fn   func() error
	done chan<- error
}

// Reside puts threads into the namespace that stay there until Close, so that Do needs CAP_SYS_ADMIN no more. What is given to Do must return
// from then on (no runtime.Goexit). Call it once, before others use Do.
func (ns *NS) Reside() error {
	if ns.own {
		return nil
	}
	r := &ns.residents
	r.work = make(chan task)
	entered := make(chan error)
	for range residentThreads {
		r.running.Add(1)
		go r.reside(ns.enter, entered)
	}
	var err error
	for range residentThreads {
		if one := <-entered; one != nil {
			err = one
		}
	}
	if err != nil {
		r.leave()
	}
	return err
}

// reside is the life of one resident. The thread is not unlocked: it ends with its goroutine, so that no other wakes up there.
func (r *residents) reside(enter func() error, entered chan<- error) {
	runtime.LockOSThread()
	// The main thread cannot end, and /proc/self shows its namespace to all: never take it.
	if unix.Gettid() == os.Getpid() {
		moved := make(chan error)
		go r.reside(enter, moved)
		err := <-moved // this goroutine holds the main thread meanwhile
		runtime.UnlockOSThread()
		entered <- err
		return
	}
	defer r.running.Done()
	err := enter()
	entered <- err
	if err != nil {
		return
	}
	for t := range r.work {
		t.done <- t.fn()
	}
}

// do reports whether it ran fn.
func (r *residents) do(fn func() error) (bool, error) {
	r.mu.RLock()
	if r.work == nil {
		r.mu.RUnlock()
		return false, nil
	}
	if r.left {
		r.mu.RUnlock()
		return true, fmt.Errorf("enter netns: %w", os.ErrClosed)
	}
	done := make(chan error, 1)
	r.work <- task{fn, done}
	r.mu.RUnlock()
	return true, <-done
}

// leave ends the threads. It is safe to call twice.
func (r *residents) leave() {
	r.mu.Lock()
	if r.work != nil && !r.left {
		r.left = true
		close(r.work)
	}
	r.mu.Unlock()
	r.running.Wait()
}

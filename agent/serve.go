package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// pauseAfterError keeps a door that lets nobody in, mostly for want of descriptors, from spinning.
const pauseAfterError = 100 * time.Millisecond

// A Listener is where clients come: a unix socket or a TCP port.
type Listener interface {
	net.Listener
	syscall.Conn
	File() (*os.File, error)
}

// Serve takes clients' carriers from l until the context ends or, unless the agent shall stay, until the last session and the last connection that
// passes through are gone. Then it closes l. When the context ends, sessions end at once, and connections that pass through are let go in time.
//
// Where clients are remote, their carriers come as bonds, and a session whose carriers broke is remembered for a minute.
func (a *Agent) Serve(ctx context.Context, l Listener) (err error) {
	defer l.Close()
	var clients, connections sync.WaitGroup
	conns, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer connections.Wait()
	defer cut()
	steered := make(chan error, 1)
	connections.Go(func() { steered <- a.ports.accept(conns) })
	defer func() { err = errors.Join(err, a.ports.stop()) }()

	sessions, end := context.WithCancel(context.WithoutCancel(ctx))
	door, shut := context.WithCancel(sessions)
	defer shut()
	if a.goesWithLast(l) {
		a.mayShut(func() {
			l.Close()
			shut()
		})
	}
	clients.Go(func() { a.accept(sessions, door, l, &clients) })
	left, err := a.stay(ctx, l, steered)
	if !left && a.hasDoor() {
		DoorOf(keyOf(a.target)).abandon()
	}
	a.dismissAll(reason(err)) // with them go all claims
	end()
	clients.Wait()
	a.dismissAll(reason(err)) // those that came meanwhile
	if err == nil {
		err = a.ports.yield()
		a.settle()
	}
	return err
}

// reason is what clients are told when the agent leaves.
func reason(err error) error {
	if err == nil {
		err = errors.New("it was told to")
	}
	e := wire.AsError(fmt.Errorf("the agent leaves: %w", err))
	e.Errno = syscall.ESHUTDOWN
	return e
}

// goesWithLast reports whether we are in a pod of our own: it goes with us, so we need not wait whether another session follows at once. In the
// target's pod we are to be met again, because a container that has ended stays in its list for ever.
func (a *Agent) goesWithLast(l Listener) bool {
	return a.cfg.Remote && !a.cfg.Stay && l.Addr().Network() == "tcp"
}

func (a *Agent) mayShut(shut func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shut = shut
}

// hasDoor reports whether clients come by a Door.
func (a *Agent) hasDoor() bool { return !a.cfg.Stay && !a.cfg.Remote }

// accept serves carriers until the listener is closed and the door is.
func (a *Agent) accept(ctx, door context.Context, l Listener, work *sync.WaitGroup) {
	bell, err := l.File() // its own descriptor, because a listener's cannot be waited for
	if err != nil {
		return
	}
	defer bell.Close()
	defer context.AfterFunc(door, func() { bell.Close() })()
	raw, err := bell.SyscallConn()
	if err != nil {
		return
	}
	bonds := wire.NewGatherer(func(pipe io.ReadWriteCloser) { a.serveCarrier(ctx, pipe) })
	for {
		if err := raw.Read(readable); err != nil { // waits
			return
		}
		pipe, err := a.enter(l)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			a.log.Warn("cannot let a client in", "err", err)
			pause(ctx, pauseAfterError)
			continue
		}
		work.Go(func() {
			if a.cfg.Remote {
				a.gather(ctx, bonds, pipe)
			} else {
				a.serveCarrier(ctx, pipe)
			}
			a.exit()
		})
	}
}

// gather serves a bond if the pipe is its first, or adds the pipe to its bond.
func (a *Agent) gather(ctx context.Context, bonds *wire.Gatherer, pipe net.Conn) {
	defer context.AfterFunc(ctx, func() { pipe.Close() })()
	if err := bonds.Add(pipe); err != nil {
		a.log.Debug("pipe refused", "remote", pipe.RemoteAddr(), "err", err)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// enter takes a connection that waits, and counts it in the same breath: see deserted.
func (a *Agent) enter(l Listener) (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	pipe, err := l.Accept()
	if err == nil {
		a.carriers++
	}
	return pipe, err
}

func (a *Agent) exit() {
	a.mu.Lock()
	a.carriers--
	a.mu.Unlock()
	a.poke()
}

// poke makes Serve look whether anybody is left.
func (a *Agent) poke() {
	select {
	case a.idle <- struct{}{}:
	default: // Serve is told already
	}
}

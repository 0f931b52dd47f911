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

// The agent leaves when nobody is there: this long after its start without any client, and this long after the last
// session and the last connection that it passed.
const (
	firstWait = time.Minute
	lastWait  = time.Second
)

// An agent that is told to end lets passed connections go as after a last claim. Those that are idle when linger is
// over are not closed before their next request; they have this much longer for it.
const settleGrace = 5 * time.Second

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
	clients.Go(func() { a.accept(sessions, l, &clients) })
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

// hasDoor reports whether clients come by a Door.
func (a *Agent) hasDoor() bool { return !a.cfg.Stay && !a.cfg.Remote }

// stay waits until there is no more reason to be here. It reports whether it closed the door behind it.
func (a *Agent) stay(ctx context.Context, l Listener, steered <-chan error) (left bool, err error) {
	gone := a.target.Gone(ctx)
	wait := time.NewTimer(firstWait)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case err := <-steered:
			return false, err
		case <-gone:
			return false, fmt.Errorf("%s is gone", a.cfg.Target)
		case <-a.idle: // perhaps it was the last
			wait.Reset(lastWait)
		case <-wait.C:
			if a.deserted(l) {
				return true, nil
			}
			wait.Reset(lastWait)
		}
	}
}

// settle waits for the connections that pass through, as long as they may.
func (a *Agent) settle() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(max(a.cfg.Linger, 0) + settleGrace); time.Now().Before(end) && a.ports.connections() > 0; {
		<-tick.C
	}
}

// accept serves carriers until the listener is closed.
func (a *Agent) accept(ctx context.Context, l Listener, work *sync.WaitGroup) {
	bell, err := l.File() // its own descriptor, because a listener's cannot be waited for
	if err != nil {
		return
	}
	defer bell.Close()
	defer context.AfterFunc(ctx, func() { bell.Close() })()
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

// deserted reports whether nobody is left or expected back, and then closes the door.
func (a *Agent) deserted(l Listener) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cfg.Stay || a.carriers > 0 || len(a.sessions) > 0 || a.ports.connections() > 0 {
		return false
	}
	if a.hasDoor() {
		return DoorOf(keyOf(a.target)).leave(l)
	}
	return closeUnlessKnocked(l)
}

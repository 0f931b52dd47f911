package agent

import (
	"context"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// The agent leaves when nobody is there: this long after its start without any client, and this long after the last
// session and the last connection that it passed. In a pod of its own it does not wait after the last one: see quit.
const (
	firstWait = time.Minute
	lastWait  = time.Second
)

// heldPatience is how long quit waits for answers of the original that are under way. Those that take longer may take for ever.
const heldPatience = time.Second

// An agent that is told to end lets passed connections go as after a last claim. Those that are idle when linger is
// over are not closed before their next request; they have this much longer for it.
const settleGrace = 5 * time.Second

// errLeft refuses who comes too late. Its client looks for the next agent.
var errLeft = &wire.Error{Errno: syscall.ESHUTDOWN, Cause: "the agent leaves", Advice: "start again: another one takes its place"}

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
			return false, &wire.Error{Cause: a.cfg.Target + " is gone", Advice: "is something restarting it? start again when it is there"}
		case <-a.last:
			a.seeOff()
			return true, nil
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

// quit ends a session whose client wants no more of it. It reports whether that was the last reason to be here: then the door is closed, and who
// comes later is refused, so that the client may clear us away. What passes through us for longer than linger would be cut by that; it is a
// reason to be here.
func (a *Agent) quit(ctx context.Context, s *session) (last bool) {
	a.end(s)
	a.forget(s.current())
	return a.isAlone() && a.ports.unending(ctx, heldPatience) == 0 && a.shutIfAlone()
}

// forget takes carriers from which no session is to be expected any more.
func (a *Agent) forget(carriers []*carrier) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range carriers {
		delete(a.callers, c)
	}
}

// shutIfAlone closes the door unless somebody has come in. It reports whether it is closed.
func (a *Agent) shutIfAlone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.left && a.lockedAlone() {
		a.left = true // no session begins after this
		a.shut()
		close(a.last)
	}
	return a.left
}

func (a *Agent) isAlone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lockedAlone()
}

// lockedAlone reports whether nobody is here who has a session or may want one, and we need not wait for anybody.
func (a *Agent) lockedAlone() bool {
	return a.shut != nil && len(a.sessions) == 0 && len(a.callers) == 0
}

// seeOff waits until clients have heard that they may go, or do not listen.
func (a *Agent) seeOff() {
	late := time.NewTimer(lastWait)
	defer late.Stop()
	for a.hasCarriers() {
		select {
		case <-a.idle:
		case <-late.C:
			return
		}
	}
}

func (a *Agent) hasCarriers() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.carriers > 0
}

// settle waits for the connections that pass through, as long as they may.
func (a *Agent) settle() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(max(a.cfg.Linger, 0) + settleGrace); time.Now().Before(end) && a.ports.connections() > 0; {
		<-tick.C
	}
}

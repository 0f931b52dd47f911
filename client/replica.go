package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/client/agentpod"
	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/wire"
)

// How long a replica waits before it goes to its place again: twice as long each time. One that was refused many times
// is left alone for longer, because what refuses may write an Event each time.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	manyTries    = 15
	wearyPause   = 30 * time.Second
)

// A replica is one place of the target. Its loop makes one link after the other, as each breaks.
type replica struct {
	session *Session
	place   place
	number  int           // in the order in which they were seen
	first   chan error    // what came of the first try
	stop    func()        // ends the loop while there is no link
	over    chan struct{} // closed when the loop has ended
	wanted  bool          // it is among the places of the target; guarded by the session's mu
	link    *link         // the one that stands; likewise

	// Only the loop touches these.
	secret []byte    // by which the session comes back
	lost   time.Time // since when there is no link; zero: there never was one
	said   string    // what was against the last try
	last   bool      // nobody is left on the agent
}

// run makes links until ctx ends or the session does.
func (r *replica) run(ctx context.Context) {
	defer r.session.remove(r)
	defer func() { r.place.leave(r.last) }()
	for try := 0; ; try++ {
		l, err := r.enter(ctx)
		switch {
		case err != nil:
			if !r.refused(ctx, err) {
				return
			}
		case r.awaited(ctx, l):
			try = 0
			r.session.join(l)
			err = l.serve()
			r.last = l.wasLast()
			r.secret, r.lost, r.said = l.hello.Session, time.Now(), ""
			if !r.session.part(l, err) {
				return
			}
		}
		if !pause(ctx, pauseBefore(try)) {
			return
		}
	}
}

// enter goes to the place and says Hello there. An agent that is just leaving is followed by the next one.
func (r *replica) enter(ctx context.Context) (l *link, err error) {
	for try := range maxLeaving {
		l, err = r.tryEnter(ctx)
		if !errors.Is(err, syscall.ESHUTDOWN) || !pause(ctx, pauseBefore(try)) {
			break
		}
	}
	return l, err
}

func (r *replica) tryEnter(ctx context.Context) (*link, error) {
	pipe, target, err := r.place.enter(ctx)
	if err != nil {
		return nil, err
	}
	who := self(r.session.cfg.Command)
	who.Id = r.session.id
	hello := &wire.HelloRequest{Version: r.session.cfg.Version, Who: who, Session: r.secret, Alone: true, Target: target}
	began := time.Now()
	l, err := greet(ctx, r, pipe, hello, r.number == 0 && r.lost.IsZero())
	var bye *farewell
	if err != nil && !errors.As(err, &bye) {
		err = r.session.notGreeted(r.place, err)
	}
	r.session.cfg.Part("agent greeted", fmt.Sprintf("%v: %s", time.Since(began).Round(time.Millisecond), r.place))
	if err == nil { // its own word counts: what its pod's labels say is what its starter believed
		if err = agentpod.Fits(l.hello.Version, r.session.cfg.Version); err != nil {
			l.leave()
		}
	}
	r.last = l.wasLast()
	return l, err
}

// awaited reports whether the link still stood when its place was ready.
func (r *replica) awaited(ctx context.Context, l *link) bool {
	select {
	case <-r.place.ready():
		return true
	case <-l.carrier.Done():
		l.close()
		r.secret = l.hello.Session
	case <-ctx.Done():
		l.leave()
		r.last = l.wasLast()
	}
	return false
}

// isReady reports whether the place was ready once.
func (r *replica) isReady() bool {
	select {
	case <-r.place.ready():
		return true
	default:
		return false
	}
}

// refused says what was against a try, and reports whether there is to be another one.
func (r *replica) refused(ctx context.Context, err error) bool {
	select {
	case r.first <- err:
	default:
	}
	var bye *farewell
	if errors.As(err, &bye) { // it was stopped while we were away
		r.session.end(bye.error)
	}
	if _, final := r.place.lost(err); final || ctx.Err() != nil || r.session.over() {
		return false
	}
	if text := err.Error(); text != r.said && r.session.isReady() && r.isReady() {
		r.said = text
		r.session.cfg.Step("waiting", r.on(err))
	}
	return true
}

// on says where something happened.
func (r *replica) on(what any) string {
	if where := r.place.String(); where != "" {
		return fmt.Sprintf("%s: %v", where, what)
	}
	return fmt.Sprint(what)
}

func pauseBefore(try int) time.Duration {
	if try >= manyTries {
		return wearyPause
	}
	return min(firstPause<<try, longestPause)
}

// pause reports whether it was not cut short.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// introduce says who is there.
func (r *replica) introduce(l *link) {
	where := r.place.String()
	if where == "" {
		where = l.hello.Target.GetName()
	}
	if where == cluster.KindNone {
		where = "no pod"
	}
	r.session.cfg.Step("agent", fmt.Sprintf("stands beside %s, process %d", where, l.hello.AgentPid))
	for _, m := range l.hello.Target.GetMissing() {
		r.session.sayOnce("without", strings.Join([]string{m.Feature + ": " + m.Cause, m.Hint}, "; "))
	}
	if theirs, ours := l.hello.Version, r.session.cfg.Version; theirs != ours {
		r.session.sayOnce("note", fmt.Sprintf("the agent is of version %s, this is %s", theirs, ours))
	}
}

package agent

import (
	"crypto/subtle"
	"fmt"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// rememberFor is how long a client whose carriers broke may come back to its session: a laptop that changes its network, an API server that is
// restarted.
const rememberFor = time.Minute

// maxStopped bounds the ids that we refuse. More sessions than this are not stopped in the life of an agent.
const maxStopped = 1024

// session returns the session that a Hello means: a new one, or the one whose secret it knows.
func (a *Agent) session(req *wire.HelloRequest) (*session, error) {
	if len(req.Session) > 0 {
		return a.known(req.Session)
	}
	sees, err := a.whom(req.Target)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left {
		return nil, errLeft
	}
	if why := a.stopped[req.Who.GetId()]; why != nil {
		return nil, why
	}
	a.number++
	s := newSession(req.Who, a.number)
	s.target = sees
	a.sessions[s.secret] = s
	return s, nil
}

func (a *Agent) known(secret []byte) (*session, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for theirs, s := range a.sessions {
		if subtle.ConstantTimeCompare([]byte(theirs), secret) == 1 {
			return s, nil
		}
	}
	return nil, &wire.Error{Errno: syscall.ESTALE, Cause: "the session is over", Advice: "start again"}
}

// abandon forgets a session that no carrier joined.
func (a *Agent) abandon(s *session) {
	if last, _ := s.drop(nil); last {
		a.end(s)
	}
}

// drop takes a carrier from its session. With the last one the session's claims go, at once.
func (a *Agent) drop(c *carrier) {
	a.forget([]*carrier{c})
	s := c.leave()
	if s == nil {
		return
	}
	last, held := s.drop(c)
	a.release(s, held)
	switch {
	case !last:
	case a.cfg.Remote:
		a.log.Info("session lost", "session", s.name)
		s.lose(func() { a.expire(s) })
	default: // on one machine, a pipe does not break: its other end is dead
		a.end(s)
	}
}

// supersede ends the carriers of a session whose client knows that they are broken. We may have waited for a byte on them
// for 15 s, and sent requests there meanwhile.
func (a *Agent) supersede(s *session) {
	for _, old := range s.current() {
		a.drop(old)
		a.dismissals.Go(func() { old.Close() })
	}
}

func (a *Agent) release(s *session, held []*holding) {
	for _, h := range held {
		if err := a.ports.release(h); err != nil {
			a.log.Error("release", "session", s.name, "port", h.port, "err", err)
		}
	}
}

// expire ends a session to which nobody came back.
func (a *Agent) expire(s *session) {
	if s.isLost() {
		a.end(s)
		a.poke()
	}
}

// end ends a session for good. What it held is released when end returns.
func (a *Agent) end(s *session) {
	a.mu.Lock()
	delete(a.sessions, s.secret)
	a.mu.Unlock()
	if over, held := s.end(); over {
		a.release(s, held)
		a.log.Info("session over", "session", s.name)
	}
}

// dismiss ends a session in the middle of its life, and tells its client why.
func (a *Agent) dismiss(s *session, why error, final bool) {
	a.end(s)
	for _, c := range s.current() {
		a.dismissals.Go(func() { c.farewell(why, final) })
	}
}

// dismissAll ends all sessions and waits until their clients know, or do not answer.
func (a *Agent) dismissAll(why error) {
	for _, s := range a.all() {
		a.dismiss(s, why, false)
	}
	a.dismissals.Wait()
}

// stop ends the sessions with an id, for somebody who wants it so. They cannot come back.
func (a *Agent) stop(id string, by *wire.Who) (stopped uint32) {
	why := &wire.Error{Errno: syscall.ECANCELED, Cause: "stopped by " + personOf(by), Advice: "start it again if that was a mistake"}
	for _, s := range a.all() {
		if id == "" || s.who.GetId() != id {
			continue
		}
		a.refuse(id, why)
		a.dismiss(s, why, true)
		stopped++
	}
	return stopped
}

// refuse remembers that a session was stopped: a client that did not hear it would come back.
func (a *Agent) refuse(id string, why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.stopped) >= maxStopped {
		clear(a.stopped)
	}
	a.stopped[id] = why
}

// personOf is who somebody is, as colleagues say it.
func personOf(who *wire.Who) string {
	user, host := who.GetUser(), who.GetHost()
	if user == "" {
		user = "somebody"
	}
	if host == "" {
		return user
	}
	return fmt.Sprintf("%s@%s", user, host)
}

func (a *Agent) all() []*session {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]*session, 0, len(a.sessions))
	for _, s := range a.sessions {
		all = append(all, s)
	}
	return all
}

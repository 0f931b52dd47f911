package agent

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/agent/target"
	"github.com/magpie-k8s/magpie/wire"
)

// maxClaims bounds the ports that one session may hold: more is no application but a mistake.
const maxClaims = 1024

// session is one magpie exec, as the agent knows it. It lives as long as one of its carriers does, and a while longer where
// carriers may break.
type session struct {
	name   string // what others see
	secret string // joins further carriers
	who    *wire.Who
	since  time.Time
	target *target.Target // whose environment and files it sees; the agent's

	mu       sync.Mutex
	carriers []*carrier
	turn     int // of the carrier that takes the next connection
	holdings map[uint64]*holding
	next     uint64 // number of the next holding
	watchers map[*watcher]struct{}
	lost     time.Time   // when the last carrier broke; zero while there is one
	expiry   *time.Timer // of a lost session
	over     bool
}

func newSession(who *wire.Who, number uint64) *session {
	return &session{
		name:     sessionName(who, number),
		secret:   rand.Text(),
		who:      who,
		since:    time.Now(),
		holdings: map[uint64]*holding{},
		watchers: map[*watcher]struct{}{},
	}
}

// sessionName is short enough for a line and tells colleagues whom to talk to.
func sessionName(who *wire.Who, number uint64) string {
	return fmt.Sprintf("%s#%d", personOf(who), number)
}

// add gives the session one more carrier. It fails when the session has just ended.
func (s *session) add(c *carrier) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return &wire.Error{Errno: syscall.ESTALE, Cause: "session " + s.name + " is over", Advice: "start again"}
	}
	s.carriers = append(s.carriers, c)
	s.lockedFind()
	return nil
}

// lockedFind ends the state of being lost.
func (s *session) lockedFind() {
	s.lost = time.Time{}
	if s.expiry != nil {
		s.expiry.Stop()
	}
}

// drop takes a carrier away. With the last one the session holds nothing any more, and drop returns what it held.
func (s *session) drop(c *carrier) (last bool, held []*holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carriers = slices.DeleteFunc(s.carriers, func(o *carrier) bool { return o == c })
	if len(s.carriers) > 0 || s.over {
		return false, nil
	}
	s.lost = time.Now()
	return true, s.lockedLetAllGo()
}

func (s *session) lockedLetAllGo() (held []*holding) {
	for _, h := range s.holdings {
		held = append(held, h)
	}
	clear(s.holdings)
	return held
}

// lose remembers the session, which has no carrier left, for a while; then it calls expire.
func (s *session) lose(expire func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.carriers) > 0 || s.over {
		return
	}
	s.expiry = time.AfterFunc(rememberFor, expire)
}

// isLost reports whether nobody came back in time. A timer may fire although it has just been stopped.
func (s *session) isLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.lost.IsZero() && time.Since(s.lost) >= rememberFor
}

// end makes sure that the session is over, and returns what it held. It reports whether it was not over before.
func (s *session) end() (ended bool, held []*holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended, s.over = !s.over, true
	s.lockedFind()
	return ended, s.lockedLetAllGo()
}

// current returns the carriers that the session has now.
func (s *session) current() []*carrier {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.carriers)
}

// hold books a new holding.
func (s *session) hold(w wish) (*holding, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over || !s.lost.IsZero():
		return nil, syscall.ESTALE
	case len(s.holdings) >= maxClaims:
		return nil, &wire.Error{Errno: syscall.EMFILE, Cause: fmt.Sprintf("claim port %d: the session holds %d ports", w.port, maxClaims)}
	}
	s.next++
	h := &holding{wish: w, session: s, id: s.next}
	s.holdings[h.id] = h
	return h, nil
}

// letGo forgets a holding and returns it, nil when there is none.
func (s *session) letGo(id uint64) *holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holdings[id]
	delete(s.holdings, id)
	return h
}

// pick returns the carrier whose turn it is, nil when there is none.
func (s *session) pick() *carrier {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.carriers) == 0 {
		return nil
	}
	s.turn = (s.turn + 1) % len(s.carriers)
	return s.carriers[s.turn]
}

// describe is the session as other sessions are told of it.
func (s *session) describe() *wire.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &wire.Session{Name: s.name, Who: s.who, SinceUnixNanos: s.since.UnixNano()}
	for _, h := range s.holdings {
		d.Holdings = append(d.Holdings, h.describe())
	}
	slices.SortFunc(d.Holdings, func(a, b *wire.Holding) int { return int(a.Port) - int(b.Port) })
	return d
}

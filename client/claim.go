package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/magpie-k8s/magpie/filters"
	"github.com/magpie-k8s/magpie/wire"
)

// maxWaiting bounds the connections of a claim that wait for Accept, like the backlog of listen(2).
const maxWaiting = 4096

// releaseTimeout bounds how long Close waits for the agent to say that a claim is gone.
const releaseTimeout = 3 * time.Second

// A Claim is a port of the target whose requests, some or all, come to this session. It is a listener: Accept
// returns each connection that brings one. Safe for concurrent use.
type Claim struct {
	Port  uint16
	Proof time.Duration // how long a connection of the agent's own took to arrive

	id      uint64
	session *Session
	waiting chan *wire.Stream
	over    chan struct{}
	once    sync.Once

	release sync.Once
	err     error // of the release
}

// A Conflict is the refusal of a claim: a colleague holds requests that it wants.
type Conflict struct {
	Port   uint16
	Holder string // whose session, and what it runs
	Filter string // what it takes; empty: every connection
	Since  time.Time
}

func (c *Conflict) Error() string {
	what := "every connection"
	if c.Filter != "" {
		what = "requests with " + c.Filter
	}
	return fmt.Sprintf("port %d: %s takes %s, since %s", c.Port, c.Holder, what, c.Since.Format("15:04:05"))
}

// Hint names the choices.
func (c *Conflict) Hint() string {
	if c.Filter == "" {
		return "ask for requests of your own with a filter, as in --http-header-filter 'x-user: me': it is asked before theirs"
	}
	return "take a filter that no request of theirs can match, or ask them to end their session"
}

// Unwrap returns EADDRINUSE, which is what listen(2) says of a port that another holds.
func (c *Conflict) Unwrap() error { return syscall.EADDRINUSE }

// Claim asks for requests of a port: those that the filter matches, or, when it is nil, whole connections. It
// returns when a connection was seen to arrive. A refusal because of a colleague is a *Conflict.
func (s *Session) Claim(ctx context.Context, port uint16, filter *filters.Filter) (*Claim, error) {
	req := &wire.ClaimRequest{Port: uint32(port), Mode: wire.Mode_MODE_STEAL}
	if filter != nil {
		req.Filter = filter.String()
	}
	s.mu.Lock()
	s.asking++
	s.mu.Unlock()
	defer s.asked()
	resp, err := s.calls.Claim(ctx, req)
	if err != nil {
		return nil, err
	}
	if taken := resp.GetConflict(); taken != nil {
		return nil, conflictOf(port, taken)
	}
	got := resp.GetClaimed()
	if got == nil {
		return nil, &wire.Error{Errno: syscall.EPROTO, Cause: "claim: the agent gave no answer that this client knows"}
	}
	c := &Claim{
		Port: port, Proof: time.Duration(got.SelfTestMicros) * time.Microsecond, id: got.Claim, session: s,
		waiting: make(chan *wire.Stream, maxWaiting), over: make(chan struct{}),
	}
	s.register(c)
	return c, nil
}

func conflictOf(port uint16, taken *wire.Conflict) *Conflict {
	who := taken.GetHolder().GetWho()
	holder := fmt.Sprintf("%s@%s", who.GetUser(), who.GetHost())
	if command := who.GetCommand(); command != "" {
		holder += " (" + command + ")"
	}
	return &Conflict{Port: port, Holder: oneLine(holder), Filter: taken.GetHeld().GetFilter(), Since: time.Unix(0, taken.GetHeld().GetSinceUnixNanos())}
}

// maxHolder is what a line has room for.
const maxHolder = 80

// oneLine makes what a colleague's machine said fit for our terminal: a command may be a script of many lines, or of
// escape sequences.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }), " ")
	if short := []rune(s); len(short) > maxHolder {
		s = string(short[:maxHolder-3]) + "..."
	}
	return s
}

// register makes the claim known to incoming connections, those that were faster than the answer included.
func (s *Session) register(c *Claim) {
	s.mu.Lock()
	s.claims[c.id] = c
	early := s.early[c.id]
	delete(s.early, c.id)
	s.mu.Unlock()
	for _, stream := range early {
		c.offer(stream)
	}
	select {
	case <-s.done:
		c.end()
	default:
	}
}

// asked refuses connections of claims that turned out not to be ours.
func (s *Session) asked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking--; s.asking > 0 {
		return
	}
	for id, streams := range s.early {
		for _, stream := range streams {
			go stream.Refuse(syscall.ECONNREFUSED)
		}
		delete(s.early, id)
	}
}

// offer queues a connection, or refuses it when nobody takes it.
func (c *Claim) offer(stream *wire.Stream) {
	select {
	case <-c.over:
	default:
		select {
		case c.waiting <- stream:
			return
		default:
		}
	}
	_ = stream.Refuse(syscall.ECONNREFUSED)
}

// An Incoming is a connection that a client made to the target. Whoever accepts it calls Accepted once the local
// process has it, or Refuse when it will not: then the request goes to the original.
type Incoming struct{ *wire.Stream }

// Accepted tells the agent that the local process has the connection. It comes before the first Write.
func (i Incoming) Accepted() error { return i.Stream.Accepted(netip.AddrPort{}) }

// Accept returns the next connection, and net.ErrClosed when the claim is closed or the session over.
func (c *Claim) Accept() (Incoming, error) {
	select {
	case stream := <-c.waiting:
		return Incoming{stream}, nil
	case <-c.over:
		return Incoming{}, net.ErrClosed
	}
}

// Close lets the claim go: from its return on, new requests reach the original, and the port may be claimed again.
func (c *Claim) Close() error {
	c.release.Do(func() { c.err = c.letGo() })
	return c.err
}

func (c *Claim) letGo() error {
	c.session.mu.Lock()
	delete(c.session.claims, c.id)
	c.session.mu.Unlock()
	c.end()
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	_, err := c.session.calls.Release(ctx, &wire.ReleaseRequest{Claim: c.id})
	if c.session.carrier.Err() != nil {
		return nil // the claim went with the session
	}
	return err
}

// end refuses what waits.
func (c *Claim) end() {
	c.once.Do(func() { close(c.over) })
	for {
		select {
		case stream := <-c.waiting:
			_ = stream.Refuse(syscall.ECONNREFUSED)
		default:
			return
		}
	}
}

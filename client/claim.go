package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// maxWaiting bounds the connections of a claim that wait for Accept, like the backlog of listen(2).
const maxWaiting = 4096

// releaseTimeout bounds how long Close waits for the agents to say that a claim is gone.
const releaseTimeout = 3 * time.Second

// slowReplica is how long a claim that stands on one replica waits for the others: listen(2) cannot wait until one that
// hangs is given up.
const slowReplica = 3 * time.Second

// A Claim is a port of the target whose requests, some or all, come to this session: on each replica there is, and on
// those that come. It is a listener: Accept returns each connection that brings one. Safe for concurrent use.
type Claim struct {
	Port  uint16
	Proof time.Duration // how long a connection of the agent's own took to arrive, on the slowest replica

	// As the replicas found it that answered in time.
	Older  int  // connections that were open before: their requests stay with the original
	Sealed bool // the original speaks TLS, and the agents were not told how to look inside

	session *Session
	wish    Wish
	waiting chan Incoming
	over    chan struct{}
	once    sync.Once

	mu     sync.Mutex
	stakes map[*link]*stake
	closed bool

	release sync.Once
	err     error // of the release
}

// Claim asks for requests of a port. It returns when a connection was seen to arrive, on each replica. A refusal because of
// a colleague is a *Conflict; one replica that refuses is enough.
func (s *Session) Claim(ctx context.Context, port uint16, wish Wish) (*Claim, error) {
	c := &Claim{
		Port: port, session: s, wish: wish, waiting: make(chan Incoming, maxWaiting), over: make(chan struct{}), stakes: map[*link]*stake{},
	}
	for {
		if _, err := s.homeLink(ctx, nil); err != nil {
			_ = c.Close()
			return nil, err
		}
		err := c.stake(ctx, s.enlist(c))
		switch {
		case ctx.Err() != nil:
			go c.Close() // an agent that hangs is not to be waited for
			return nil, ctx.Err()
		case err != nil:
			_ = c.Close()
			return nil, err
		case c.Replicas() > 0:
			s.tell(c)
			return c, nil
		}
	}
}

// enlist makes the claim one of the session's, and returns the links that stand. Those that come later see to it
// themselves.
func (s *Session) enlist(c *Claim) []*link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.claims, c) {
		s.claims = append(s.claims, c)
	}
	return slices.Clone(s.links)
}

// stake makes the claim on the links, and fails when one of them refuses. A link that breaks meanwhile is no refusal:
// whoever takes its place claims anew.
func (c *Claim) stake(ctx context.Context, links []*link) error {
	answers, asked := make(chan *stake, len(links)), 0
	for _, l := range links {
		if k := c.on(l); k != nil {
			asked++
			go k.tell(answers)
		}
	}
	var enough <-chan time.Time
	for ; asked > 0; asked-- {
		select {
		case k := <-answers:
			if k.refused() {
				return k.err
			}
			if k.err == nil {
				c.Proof = max(c.Proof, k.proof)
				c.Older += k.older
				c.Sealed = c.Sealed || k.sealed
				if enough == nil {
					enough = time.After(slowReplica)
				}
			}
		case <-enough:
			go c.session.insist(answers, asked)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Replicas says on how many replicas the claim stands now.
func (c *Claim) Replicas() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.stakes {
		if k.stands() {
			n++
		}
	}
	return n
}

// offer queues a connection, or refuses it when nobody takes it.
func (c *Claim) offer(in Incoming) {
	c.session.taken.Add(1)
	select {
	case <-c.over:
	default:
		select {
		case c.waiting <- in:
			return
		default:
		}
	}
	_ = in.Refuse(syscall.ECONNREFUSED)
}

// An Incoming is a connection that a client made to the target. Whoever accepts it calls Accepted once the local
// process has it, or Refuse when it will not: then the request goes to the original.
type Incoming struct {
	*wire.Stream
	hello *wire.TlsHello
}

// Encrypted reports whether the local process is to be spoken to in TLS: see Claim.Encrypt.
func (i Incoming) Encrypted() bool { return i.hello != nil }

// Accepted tells the agent that the local process has the connection. It comes before the first Write.
func (i Incoming) Accepted() error { return i.Stream.Accepted(netip.AddrPort{}) }

// Accept returns the next connection, and net.ErrClosed when the claim is closed or the session over.
func (c *Claim) Accept() (Incoming, error) {
	select {
	case in := <-c.waiting:
		return in, nil
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
	c.session.strike(c)
	c.end()
	c.mu.Lock()
	c.closed = true
	stakes := c.stakes
	c.stakes = nil
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	released := make(chan error, len(stakes))
	for _, k := range stakes {
		go func() { released <- k.release(ctx) }()
	}
	var err error
	for range stakes {
		err = errors.Join(err, <-released)
	}
	return err
}

// release lets a stake of a closed claim go. One that is still on its way is released when it comes: see make.
func (k *stake) release(ctx context.Context) error {
	if !k.stands() {
		return nil
	}
	return k.link.release(ctx, k.id)
}

// strike takes the claim off the session's list.
func (s *Session) strike(c *Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims = slices.DeleteFunc(s.claims, func(o *Claim) bool { return o == c })
}

// end refuses what waits.
func (c *Claim) end() {
	c.once.Do(func() { close(c.over) })
	for {
		select {
		case in := <-c.waiting:
			_ = in.Refuse(syscall.ECONNREFUSED)
		default:
			return
		}
	}
}

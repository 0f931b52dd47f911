// Package client brings a session to the agents of a target: on this host, or on each of the target's pods. It finds or
// starts the agents, comes back to them when the way is lost, and offers what they can do there. It never runs anything
// on behalf of the local process and never prints.
package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/client/agentpod"
	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/wire"
)

// maxAlone is how long a session lives without any agent. Whoever closes the lid for lunch starts again.
const maxAlone = 10 * time.Minute

// leaveTimeout bounds how long Close waits for an agent to say that the session is over for good, and then for the cluster to clear it away.
const leaveTimeout = 2 * time.Second

// Config says which session to open. Target is required unless Socket names an agent that runs.
type Config struct {
	Target  string        // KIND/NAME: netns/NAME and pid/N are on this host, all else is in the cluster
	Socket  string        // unix socket of an agent on this host; empty: it is found or started
	Linger  time.Duration // of an agent that is started for this session
	Version string        // Magpie's
	Command []string      // what the session is for, for colleagues to read

	// For targets in a cluster.
	Cluster  *cluster.Cluster
	Agent    agentpod.Settings // of agents that are started
	Replicas string            // AllReplicas, or OneReplica; empty is all

	// Step is told of each thing done, for the user to see: "lost" and "back" are among them later on. It is called
	// concurrently. Nil is fine.
	Step func(what, detail string)

	// Part is told of the parts of an agent's start and how long each took, for who asks where the time goes. Nil is fine.
	Part func(what, detail string)
}

// A Session is what one magpie exec has of the agents of its target. It is safe for concurrent use; close it.
type Session struct {
	cfg   Config
	id    string
	taken atomic.Int64   // connections that came for the local process
	stop  func()         // ends the loops
	work  sync.WaitGroup // the loops
	leave sync.Once

	first   sync.Once
	claimed chan struct{} // closed with the first claim

	done  chan struct{} // closed when the session is over
	fail  sync.Once
	cause error // set before done is closed

	mu       sync.Mutex
	name     string             // what colleagues see, from the first link
	replicas map[place]*replica // those with a loop
	seen     int                // replicas ever
	links    []*link            // those that stand
	home     *link              // one of them
	settled  *replica           // whose link was home last
	ready    bool               // Open has returned
	alone    *time.Timer        // runs while there are no links
	changed  chan struct{}      // closed and replaced when links or home change
	claims   []*Claim
	takes    []string // what claims took, ever, in words
	watches  []*watch
	notes    map[string]bool // said, and not to be said again
}

// Open finds or starts the agents of the target and opens a session.
func Open(ctx context.Context, cfg Config) (*Session, error) {
	if cfg.Socket != "" || !cluster.IsClusterTarget(cfg.Target) {
		return open(ctx, cfg, &here{cfg})
	}
	ground, err := newPods(cfg)
	if err != nil {
		return nil, err
	}
	return open(ctx, cfg, ground)
}

func open(ctx context.Context, cfg Config, g ground) (*Session, error) {
	if cfg.Step == nil {
		cfg.Step = func(string, string) {}
	}
	if cfg.Part == nil {
		cfg.Part = func(string, string) {}
	}
	places, err := g.places(ctx)
	if err != nil {
		return nil, err
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Session{
		cfg: cfg, id: newID(), stop: stop, done: make(chan struct{}), claimed: make(chan struct{}),
		replicas: map[place]*replica{}, changed: make(chan struct{}), notes: map[string]bool{},
	}
	if err := s.begin(ctx, life, places); err != nil {
		s.Close()
		return nil, err
	}
	s.work.Go(func() {
		if err := g.watch(life, func(now []place) { s.follow(life, now) }); life.Err() == nil {
			s.end(err)
		}
	})
	return s, nil
}

// newID returns what people name a session by: short enough to type.
func newID() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// begin enters all places at once, and returns when each was entered or refused. One is enough; when there is none, it
// returns what the first place had against us.
func (s *Session) begin(ctx, life context.Context, places []place) error {
	var refused error
	linked := false
	for _, r := range s.follow(life, places) {
		select {
		case err := <-r.first:
			linked = linked || err == nil
			if refused == nil {
				refused = err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = true
	if linked {
		return nil
	}
	return refused
}

// ID is what people name the session by. It is the same on all agents.
func (s *Session) ID() string { return s.id }

// Name is what colleagues see of the session.
func (s *Session) Name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name
}

// Replicas says on how many replicas the session stands now.
func (s *Session) Replicas() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.links)
}

// Tally says how much came for the local process.
func (s *Session) Tally() string {
	if n := s.taken.Load(); n != 1 {
		return fmt.Sprintf("%d connections", n)
	}
	return "1 connection"
}

// Done is closed when the session is over: closed, stopped, or lost for good.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why the session ended; nil while it has not, or after Close.
func (s *Session) Err() error {
	select {
	case <-s.done:
		return s.cause
	default:
		return nil
	}
}

// Close ends the session: its claims go, and what they took is passed to the original again.
func (s *Session) Close() error {
	s.end(nil)
	s.leave.Do(s.leaveAll)
	s.work.Wait()
	return nil
}

// end is the end for all who wait for something of the session.
func (s *Session) end(cause error) {
	s.fail.Do(func() {
		s.cause = cause
		close(s.done)
		s.stop()
		s.mu.Lock()
		claims := s.claims
		s.claims = nil
		s.lockedAccompany()
		s.mu.Unlock()
		for _, c := range claims {
			c.end()
		}
	})
}

// leaveAll tells the agents that the session is over for good, all at once.
func (s *Session) leaveAll() {
	s.mu.Lock()
	links := slices.Clone(s.links) // each takes itself off the list
	s.mu.Unlock()
	var leaving sync.WaitGroup
	for _, l := range links {
		leaving.Go(l.leave)
	}
	leaving.Wait()
}

// lockedAccompany sees to it that a session does not live on without agents for ever.
func (s *Session) lockedAccompany() {
	switch {
	case len(s.links) > 0 || s.over():
		if s.alone != nil {
			s.alone.Stop()
			s.alone = nil
		}
	case s.alone == nil:
		s.alone = time.AfterFunc(maxAlone, func() {
			s.end(&wire.Error{
				Errno: syscall.ENETUNREACH, Cause: fmt.Sprintf("no agent of %s could be reached for %v", s.cfg.Target, maxAlone),
				Advice: "magpie doctor --target " + s.cfg.Target + " says what is in the way",
			})
		})
	}
}

func (s *Session) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// errOver is what those hear who want something of a session that is over.
func (s *Session) errOver() error {
	if err := s.Err(); err != nil {
		return err
	}
	return &wire.Error{Errno: syscall.ENETUNREACH, Cause: "the session is over"}
}

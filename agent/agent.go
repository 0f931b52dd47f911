// Package agent stands beside a target and serves the sessions of clients: it claims ports for them, lets their local
// processes reach what the target reaches, and tells them what the target knows. It never touches a connection to a
// port that no session claims, and leaves nothing when it ends, however it ends.
package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/magpie-k8s/magpie/agent/outgoing"
	"github.com/magpie-k8s/magpie/agent/steal"
	"github.com/magpie-k8s/magpie/agent/target"
	"github.com/magpie-k8s/magpie/wire"
)

// Config says what an agent is for. The zero value of all but Target works.
type Config struct {
	Target  string        // whom to stand beside, see agent/target
	Version string        // Magpie's, for clients to compare
	Linger  time.Duration // of passed connections; zero is 60 s, negative none: see agent/route
	Stay    bool          // serve until the context ends, not until the last session does
	Remote  bool          // clients come over a network, see Serve; not by a Door of this machine
	Node    string        // the machine's name in a cluster, for people
	Logger  *slog.Logger  // nil: nothing is logged
}

// An Agent serves the sessions on one target. Close it when Serve has returned.
type Agent struct {
	cfg      Config
	log      *slog.Logger
	target   *target.Target
	outgoing *outgoing.Dialer
	ports    *ports

	mu       sync.Mutex
	sessions map[string]*session   // by secret
	number   uint64                // of the last session
	stopped  map[string]error      // why, by the ids of sessions that were stopped
	others   []*target.Target      // beside target, that sessions see or may ask to see
	carriers int                   // with or without a session, and pipes that may become one
	callers  map[*carrier]struct{} // those that have a session or may want one
	idle     chan struct{}         // told when a carrier ends, or a session that had none
	shut     func()                // closes the door for quit, which may do so; nil: it may not
	left     bool                  // the door was closed by it
	last     chan struct{}         // closed then

	dismissals sync.WaitGroup
}

// New finds the target and puts the agent in its place. Nothing is claimed yet.
func New(cfg Config) (_ *Agent, err error) {
	if cfg.Linger == 0 {
		cfg.Linger = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Agent{
		cfg: cfg, log: cfg.Logger, sessions: map[string]*session{}, stopped: map[string]error{}, callers: map[*carrier]struct{}{},
		idle: make(chan struct{}, 1), last: make(chan struct{}),
	}
	if a.target, err = target.Find(cfg.Target); err != nil {
		return nil, err
	}
	if err := a.attach(); err != nil {
		return nil, errors.Join(err, a.closeTargets())
	}
	return a, nil
}

func (a *Agent) attach() (err error) {
	if err := a.target.NS.Reside(); err != nil {
		return err
	}
	if a.others, err = a.target.Neighbours(); err != nil {
		return err
	}
	a.outgoing = outgoing.New(a.target.NS)
	if !a.target.HasOriginal() {
		a.ports = newPorts(a.target, nil, a.cfg.Linger)
		return nil
	}
	redirect, err := steal.Open(a.target.NS, a.target.Cgroup, steal.Config{Logger: a.log})
	if err != nil {
		return err
	}
	a.ports = newPorts(a.target, redirect, a.cfg.Linger)
	return nil
}

// TargetKey is the same for all names of one target, and fit for a file's name.
func TargetKey(name string) (string, error) {
	t, err := target.Find(name)
	if err != nil {
		return "", err
	}
	defer t.Close()
	return keyOf(t), nil
}

func keyOf(t *target.Target) string { return fmt.Sprintf("netns-%d", t.NS.ID().Ino) }

// Lend gives a client on this host the pipe to its agent.
func Lend(client *net.UnixConn, pipe *os.File) error { return wire.SendPipe(client, pipe) }

// Refuse tells a client on this host why it gets no pipe.
func Refuse(client *net.UnixConn, why error) error { return wire.SendRefusal(client, why) }

// Close lets go of the target.
func (a *Agent) Close() error {
	return errors.Join(a.ports.stop(), a.closeTargets())
}

func (a *Agent) closeTargets() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.target.Close()
	for _, t := range a.others {
		err = errors.Join(err, t.Close())
	}
	return err
}

// Package agent stands beside a target and serves the sessions of clients: it claims ports for them, lets their local
// processes reach what the target reaches, and tells them what the target knows. It never touches a connection to a
// port that no session claims, and leaves nothing when it ends, however it ends.
package agent

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/agent/outgoing"
	"github.com/magpie-k8s/magpie/agent/resolve"
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
	sessions map[string]*session // by secret
	number   uint64              // of the last session
	carriers int                 // with or without a session
	idle     chan struct{}       // told when a carrier ends
}

// New finds the target and puts the agent in its place. Nothing is claimed yet.
func New(cfg Config) (_ *Agent, err error) {
	if cfg.Linger == 0 {
		cfg.Linger = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Agent{cfg: cfg, log: cfg.Logger, sessions: map[string]*session{}, idle: make(chan struct{}, 1)}
	if a.target, err = target.Find(cfg.Target); err != nil {
		return nil, err
	}
	if err := a.attach(); err != nil {
		a.target.Close()
		return nil, err
	}
	return a, nil
}

func (a *Agent) attach() error {
	redirect, err := steal.Open(a.target.NS, a.target.Cgroup, steal.Config{Logger: a.log})
	if err != nil {
		return err
	}
	a.ports = newPorts(redirect, a.cfg.Linger)
	a.outgoing = outgoing.New(a.target.NS)
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

// session returns the session that a Hello means: a new one, or the one whose secret it knows.
func (a *Agent) session(req *wire.HelloRequest) (*session, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(req.Session) == 0 {
		a.number++
		s := newSession(req.Who, a.number)
		a.sessions[s.secret] = s
		return s, nil
	}
	for secret, s := range a.sessions {
		if subtle.ConstantTimeCompare([]byte(secret), req.Session) == 1 {
			return s, nil
		}
	}
	return nil, &wire.Error{Errno: syscall.ESTALE, Cause: "the session is over", Advice: "start again"}
}

// abandon forgets a session that no carrier joined.
func (a *Agent) abandon(s *session) {
	if over, _ := s.drop(nil); over {
		a.forget(s)
	}
}

// drop takes a carrier from its session. With the last one the session's claims go, at once.
func (a *Agent) drop(c *carrier) {
	s := c.leave()
	if s == nil {
		return
	}
	over, held := s.drop(c)
	if !over {
		return
	}
	for _, h := range held {
		if err := a.ports.release(h); err != nil {
			a.log.Error("release", "session", s.name, "port", h.port, "err", err)
		}
	}
	a.forget(s)
	a.log.Info("session over", "session", s.name)
}

func (a *Agent) forget(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sessions, s.secret)
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

// describe tells a client what the target is and what does not work there.
func (a *Agent) describe() *wire.Target {
	d := &wire.Target{
		Name:         a.cfg.Target,
		Netns:        a.target.NS.ID().Ino,
		Pid:          uint32(a.target.PID),
		RestoresPeer: a.ports.redirect.RestoresPeer(),
	}
	if !d.RestoresPeer {
		d.Missing = append(d.Missing, &wire.Missing{
			Feature: "client addresses",
			Cause:   a.target.CgroupMissing,
			Hint:    "on connections that pass through the agent, the original sees the target's own address",
		})
	}
	return d
}

func (a *Agent) names() (resolve.Names, error) { return resolve.Read(a.target) }

// Close lets go of the target.
func (a *Agent) Close() error {
	return errors.Join(a.ports.stop(), a.target.Close())
}

package agent

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/magpie-k8s/magpie/agent/resolve"
	"github.com/magpie-k8s/magpie/wire"
)

// calls answers the calls of one carrier's client. See docs/PROTOCOL.md for what each promises.
type calls struct{ *carrier }

// known are the words for what clients may ask for that older agents know nothing of: see docs/PROTOCOL.md.
var known = []string{"protocols", "tls", "flush"}

// Hello begins a session, or joins the carrier to one by its secret.
func (c *calls) Hello(_ context.Context, req *wire.HelloRequest) (*wire.HelloResponse, error) {
	s, err := c.agent.session(req)
	if err != nil {
		return nil, err
	}
	if req.Alone {
		c.agent.supersede(s)
	}
	if err := c.join(s); err != nil {
		if len(req.Session) == 0 {
			c.agent.abandon(s)
		}
		return nil, err
	}
	c.log.Info("session joined", "session", s.name, "version", req.Version)
	return &wire.HelloResponse{
		Version:  c.agent.cfg.Version,
		Features: known,
		Session:  []byte(s.secret),
		Name:     s.name,
		AgentPid: uint32(os.Getpid()),
		Target:   c.agent.describe(s.target),
	}, nil
}

// Environment returns the variables of the original.
func (c *calls) Environment(ctx context.Context, _ *wire.EnvironmentRequest) (*wire.EnvironmentResponse, error) {
	s, err := c.await(ctx)
	if err != nil {
		return nil, err
	}
	env, err := s.target.Environment()
	if err != nil {
		return nil, err
	}
	resp := &wire.EnvironmentResponse{}
	for _, kv := range env {
		resp.Variables = append(resp.Variables, []byte(kv))
	}
	return resp, nil
}

// Names returns the files by which the target resolves names.
func (c *calls) Names(ctx context.Context, _ *wire.NamesRequest) (*wire.NamesResponse, error) {
	s, err := c.await(ctx)
	if err != nil {
		return nil, err
	}
	n, err := resolve.Read(s.target)
	if err != nil {
		return nil, err
	}
	return &wire.NamesResponse{ResolvConf: n.ResolvConf, Hosts: n.Hosts, NsswitchConf: n.Nsswitch, Hostname: n.Hostname}, nil
}

// Claim gives the session requests of a port, and proves that its connections arrive.
func (c *calls) Claim(ctx context.Context, req *wire.ClaimRequest) (*wire.ClaimResponse, error) {
	s, err := c.await(ctx)
	if err != nil {
		return nil, err
	}
	w, err := wishOf(req)
	if err != nil {
		return nil, err
	}
	h, err := s.hold(w)
	if err != nil {
		return nil, err
	}
	granted, err := c.agent.ports.claim(ctx, h)
	if err != nil {
		s.letGo(h.id)
		var taken *conflict
		if errors.As(err, &taken) {
			return &wire.ClaimResponse{Outcome: &wire.ClaimResponse_Conflict{Conflict: &wire.Conflict{
				Holder: taken.held.session.describe(), Held: taken.held.describe(),
			}}}, nil
		}
		return nil, err
	}
	c.log.Info("port claimed", "session", s.name, "port", h.port, "filter", h.text())
	return &wire.ClaimResponse{Outcome: &wire.ClaimResponse_Claimed{Claimed: &wire.Claimed{
		Claim: h.id, SelfTestMicros: uint64(max(granted.proof, time.Microsecond) / time.Microsecond),
		Older: uint32(granted.older), Sealed: granted.sealed,
	}}}, nil
}

// Release lets a claim go.
func (c *calls) Release(ctx context.Context, req *wire.ReleaseRequest) (*wire.ReleaseResponse, error) {
	s, err := c.await(ctx)
	if err != nil {
		return nil, err
	}
	if h := s.letGo(req.Claim); h != nil {
		c.log.Info("port released", "session", s.name, "port", h.port)
		if err := c.agent.ports.release(h); err != nil {
			return nil, err
		}
	}
	return &wire.ReleaseResponse{}, nil
}

// Listeners returns where the original accepts connections.
func (c *calls) Listeners(ctx context.Context, _ *wire.ListenersRequest) (*wire.ListenersResponse, error) {
	if _, err := c.await(ctx); err != nil {
		return nil, err
	}
	addrs, err := c.agent.target.Listeners()
	if err != nil {
		return nil, err
	}
	resp := &wire.ListenersResponse{}
	for _, a := range addrs {
		resp.Addresses = append(resp.Addresses, wire.AddressOf(a))
	}
	return resp, nil
}

// Sessions returns who is here and holds what, the oldest first. It needs no session.
func (c *calls) Sessions(context.Context, *wire.SessionsRequest) (*wire.SessionsResponse, error) {
	resp := &wire.SessionsResponse{}
	for _, s := range c.agent.all() {
		if len(s.current()) > 0 { // not a lost one
			resp.Sessions = append(resp.Sessions, s.describe())
		}
	}
	slices.SortFunc(resp.Sessions, func(a, b *wire.Session) int { return cmp.Compare(a.SinceUnixNanos, b.SinceUnixNanos) })
	return resp, nil
}

// Leave ends the caller's session for good. What it held is released before the answer, and the door is closed if it was the last.
func (c *calls) Leave(ctx context.Context, _ *wire.LeaveRequest) (*wire.LeaveResponse, error) {
	s, err := c.await(ctx)
	if err != nil {
		return nil, err
	}
	last := c.agent.quit(ctx, s)
	return &wire.LeaveResponse{Last: last}, nil
}

// Stop ends the sessions with an id. It needs no session.
func (c *calls) Stop(_ context.Context, req *wire.StopRequest) (*wire.StopResponse, error) {
	stopped := c.agent.stop(req.Id, req.Who)
	c.log.Info("sessions stopped", "id", req.Id, "stopped", stopped, "by", personOf(req.Who))
	return &wire.StopResponse{Stopped: stopped}, nil
}

package client

import (
	"context"
	"io"
	"net"

	"github.com/magpie-k8s/magpie/wire"
)

// A place is where an agent stands, or will: a namespace of this host, or a pod. Two values are the same place if they
// are equal.
type place interface {
	// String is what lines call it.
	String() string

	// enter returns a pipe to the place's agent, which is found or started, and what to ask for in Hello.
	enter(ctx context.Context) (pipe io.ReadWriteCloser, target string, err error)

	// ready is closed once requests of the place may be claimed. Until then a link there is a preparation: a pod whose
	// probe a claim would answer could be taken for ready by all others, too.
	ready() <-chan struct{}

	// lost returns what is behind the end of a link, and whether it is the end of the session too.
	lost(why error) (cause error, final bool)

	// leave gives up what enter keeps for the next time. The last one to leave clears the agent away.
	leave(last bool)
}

// A ground is where the places of a target are found.
type ground interface {
	// places returns those that there are, first the one that shall be home.
	places(ctx context.Context) ([]place, error)

	// watch tells of all places, at first and after each change, until ctx ends. An error says that there will never
	// be one again.
	watch(ctx context.Context, seen func([]place)) error
}

// here is a target on this host: a single place. Its session ends with its link, because whatever takes the link away
// on one host takes the agent or the target away.
type here struct {
	cfg Config
}

func (h *here) String() string { return h.cfg.Target }

func (h *here) enter(ctx context.Context) (io.ReadWriteCloser, string, error) {
	if h.cfg.Socket == "" {
		pipe, err := enter(ctx, h.cfg.Target, h.cfg.Linger)
		return pipe, "", err
	}
	pipe, err := (&net.Dialer{}).DialContext(ctx, "unix", h.cfg.Socket)
	if err != nil {
		e := wire.AsError(err)
		e.Cause = "agent: " + e.Cause
		e.Advice = "is an agent serving there? Without --agent, magpie finds or starts one"
		return nil, "", e
	}
	return pipe, "", nil
}

func (h *here) ready() <-chan struct{} { return closed() }

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (h *here) lost(why error) (error, bool) {
	if gone := h.gone(); gone != nil {
		return gone, true
	}
	return why, true
}

func (h *here) leave(bool) {}

func (h *here) places(context.Context) ([]place, error) { return []place{h}, nil }

func (h *here) watch(ctx context.Context, _ func([]place)) error {
	<-ctx.Done()
	return ctx.Err()
}

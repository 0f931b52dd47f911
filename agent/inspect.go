package agent

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/wire"
)

// Inspect says what the kernel and our rights allow here. It needs no session.
func (c *calls) Inspect(context.Context, *wire.InspectRequest) (*wire.InspectResponse, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, err
	}
	listeners, err := c.agent.target.Listeners()
	if err != nil {
		return nil, err
	}
	resp := &wire.InspectResponse{
		Kernel:   unix.ByteSliceToString(name.Release[:]),
		Node:     c.agent.cfg.Node,
		Features: c.agent.features(),
		Version:  c.agent.cfg.Version,
	}
	for _, l := range listeners {
		resp.Listeners = append(resp.Listeners, wire.AddressOf(l))
	}
	return resp, nil
}

// features says what was found possible when the agent began. Each was tried, none guessed.
func (a *Agent) features() []*wire.Feature {
	redirect := &wire.Feature{Name: "redirect", Present: a.ports.redirect != nil}
	if !redirect.Present {
		redirect.Cause, redirect.Hint = "there is no target", "name one whose requests to take"
	}
	addresses := &wire.Feature{Name: "client addresses", Present: true}
	if err := a.ports.restoresPeer(); err != nil {
		addresses.Present, addresses.Cause = false, err.Error()
		addresses.Hint = "on connections that pass through the agent, the original sees the target's own address"
		if a.target.CgroupMissing != "" {
			addresses.Cause = a.target.CgroupMissing
		}
	}
	return []*wire.Feature{redirect, addresses}
}

var errNoRedirect = errors.New("there is no target")

// restoresPeer says why the original does not see clients' addresses; nil when it does.
func (p *ports) restoresPeer() error {
	if p.redirect == nil {
		return errNoRedirect
	}
	return p.redirect.NoRestore()
}

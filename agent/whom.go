package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/magpie-k8s/magpie/agent/target"
	"github.com/magpie-k8s/magpie/wire"
)

// maxOthers bounds the targets in one network namespace: pods have a handful of containers.
const maxOthers = 128

// whom returns the target whose environment and files a session sees, which it names; empty: the agent's own. It must be in the same network namespace:
// there the ports are, which a session claims and connects to.
func (a *Agent) whom(name string) (*target.Target, error) {
	if name == "" || a.target.Is(name) {
		return a.target, nil
	}
	if t := a.other(name); t != nil {
		return t, nil
	}
	t, err := target.Find(name)
	if errors.Is(err, fs.ErrPermission) {
		return nil, &wire.Error{
			Errno: syscall.EPERM, Cause: fmt.Sprintf("target %s: it began after the agent, which looks at nothing new", name),
			Advice: "start again when all other sessions on this pod are over",
		}
	}
	if err != nil {
		return nil, err
	}
	if t.NS.ID() != a.target.NS.ID() {
		t.Close()
		return nil, &wire.Error{
			Errno: syscall.EINVAL, Cause: fmt.Sprintf("target %s: it is not in the network namespace of %s", name, a.cfg.Target),
			Advice: "each network namespace has an agent of its own",
		}
	}
	return t, a.keep(t)
}

func (a *Agent) other(name string) *target.Target {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.others {
		if t.Is(name) {
			return t
		}
	}
	return nil
}

// keep holds a target for the next one who asks for it, until Close.
func (a *Agent) keep(t *target.Target) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.others) >= maxOthers {
		t.Close()
		return &wire.Error{Errno: syscall.EMFILE, Cause: fmt.Sprintf("target %s: the agent holds %d targets", t.Name, maxOthers)}
	}
	a.others = append(a.others, t)
	return nil
}

// describe tells a client what the target is that it sees, and what does not work there.
func (a *Agent) describe(sees *target.Target) *wire.Target {
	d := &wire.Target{
		Name:         sees.Name,
		Netns:        sees.NS.ID().Ino,
		Pid:          uint32(sees.PID),
		RestoresPeer: a.ports.restoresPeer() == nil,
	}
	for _, f := range a.features() {
		if !f.Present && sees.HasOriginal() {
			d.Missing = append(d.Missing, &wire.Missing{Feature: f.Name, Cause: f.Cause, Hint: f.Hint})
		}
	}
	return d
}

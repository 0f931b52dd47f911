package client

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// Running is a session on an agent, whoever's.
type Running struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	User     string    `json:"user"`
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Command  string    `json:"command"`
	Since    time.Time `json:"since"`
	Holdings []Holding `json:"holdings"`
}

// Holding is a port that a session has claimed.
type Holding struct {
	Port   uint16    `json:"port"`
	Mode   string    `json:"mode"`             // steal or mirror
	Filter string    `json:"filter,omitempty"` // empty: every connection
	Since  time.Time `json:"since"`
}

// Inspection is what an agent knows of the place that it is in.
type Inspection struct {
	Version   string           `json:"version"` // of the agent
	Kernel    string           `json:"kernel"`
	Node      string           `json:"node,omitempty"`
	Features  []Feature        `json:"features"`
	Listeners []netip.AddrPort `json:"listeners"` // of the original
}

// Feature is something that the kernel and the agent's rights allow, or do not.
type Feature struct {
	Name    string `json:"name"`
	Present bool   `json:"present"`
	Cause   string `json:"cause,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// Sessions asks the agent at the other end of a pipe who is there. It closes the pipe.
func Sessions(ctx context.Context, pipe io.ReadWriteCloser) ([]Running, error) {
	resp, err := survey(ctx, pipe, func(ctx context.Context, calls *wire.Caller) (*wire.SessionsResponse, error) {
		return calls.Sessions(ctx, &wire.SessionsRequest{})
	})
	var running []Running
	for _, s := range resp.GetSessions() {
		running = append(running, runningOf(s))
	}
	return running, err
}

// Stop ends the sessions with an id at the agent at the other end of a pipe, and returns how many that were. It closes
// the pipe.
func Stop(ctx context.Context, pipe io.ReadWriteCloser, id string) (int, error) {
	resp, err := survey(ctx, pipe, func(ctx context.Context, calls *wire.Caller) (*wire.StopResponse, error) {
		return calls.Stop(ctx, &wire.StopRequest{Id: id, Who: self(nil)})
	})
	return int(resp.GetStopped()), err
}

// Inspect asks the agent at the other end of a pipe what works where it stands. It closes the pipe.
func Inspect(ctx context.Context, pipe io.ReadWriteCloser) (Inspection, error) {
	resp, err := survey(ctx, pipe, func(ctx context.Context, calls *wire.Caller) (*wire.InspectResponse, error) {
		return calls.Inspect(ctx, &wire.InspectRequest{})
	})
	if err != nil {
		return Inspection{}, err
	}
	in := Inspection{Version: resp.Version, Kernel: resp.Kernel, Node: resp.Node}
	for _, f := range resp.Features {
		in.Features = append(in.Features, Feature{Name: f.Name, Present: f.Present, Cause: f.Cause, Hint: f.Hint})
	}
	for _, a := range resp.Listeners {
		addr, err := a.AddrPort()
		if err != nil {
			return Inspection{}, err
		}
		in.Listeners = append(in.Listeners, addr)
	}
	return in, nil
}

// survey makes one call on a pipe without being a session.
func survey[T any](ctx context.Context, pipe io.ReadWriteCloser, call func(context.Context, *wire.Caller) (T, error)) (T, error) {
	carrier := wire.Client(pipe)
	defer carrier.Close()
	var none T
	calls, err := carrier.Calls(ctx)
	if err != nil {
		return none, err
	}
	defer calls.Close()
	resp, err := call(ctx, calls)
	if broken := carrier.Err(); err != nil && broken != nil {
		return none, broken
	}
	return resp, err
}

func runningOf(s *wire.Session) Running {
	who := s.GetWho()
	r := Running{
		ID: who.GetId(), Name: oneLine(s.Name), User: oneLine(who.GetUser()), Host: oneLine(who.GetHost()), PID: int(who.GetPid()),
		Command: oneLine(who.GetCommand()), Since: time.Unix(0, s.SinceUnixNanos),
	}
	for _, h := range s.Holdings {
		r.Holdings = append(r.Holdings, Holding{Port: uint16(h.Port), Mode: modeWord(h.Mode), Filter: h.Filter, Since: time.Unix(0, h.SinceUnixNanos)})
	}
	return r
}

func modeWord(m wire.Mode) string {
	if m == wire.Mode_MODE_MIRROR {
		return "mirror"
	}
	return "steal"
}

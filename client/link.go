package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// helloTimeout bounds how long a pipe may take to show that an agent is at its other end. A peer that says nothing at
// all is given up by the carrier, which knows more, a little earlier.
const helloTimeout = 11 * time.Second

// A link is the session's line to one agent: a carrier on which Hello was said. It ends with the carrier and never
// comes back; another one may.
type link struct {
	replica *replica
	carrier *wire.Carrier
	calls   *wire.Caller
	hello   *wire.HelloResponse

	// Asked together with Hello on the link that shall be home; nil on others.
	env   *asked[[]string]
	names *asked[Names]

	mu       sync.Mutex
	farewell *farewell
	last     bool                  // the agent said so when we left
	watching []<-chan struct{}     // closed when the agent has answered a watch
	claims   map[uint64]*Claim     // by the agent's numbers
	asking   int                   // claims whose answer is still on its way
	early    map[uint64][]Incoming // their connections, which may be faster than the answer
}

// greet makes a link of a pipe to an agent. With ahead it asks for what the home link will be asked for, without
// waiting for Hello: that would be another round trip. When ctx ends meanwhile, it leaves again.
func greet(life context.Context, r *replica, pipe io.ReadWriteCloser, hello *wire.HelloRequest, ahead bool) (l *link, err error) {
	l = &link{replica: r, carrier: wire.Client(pipe), claims: map[uint64]*Claim{}, early: map[uint64][]Incoming{}}
	defer func() {
		if err == nil {
			return
		}
		err = l.explain(err)
		if life.Err() != nil && l.calls != nil {
			l.leave() // the agent may know us already, and would wait for us
		}
		l.close()
	}()
	ctx, cancel := context.WithTimeout(life, helloTimeout)
	defer cancel()
	if l.calls, err = l.carrier.Calls(ctx); err != nil {
		return l, err
	}
	if ahead {
		l.env, l.names = ask(l.environment), ask(l.lookups)
	}
	l.hello, err = l.calls.Hello(ctx, hello)
	if len(hello.Session) > 0 && errors.Is(err, syscall.ESTALE) {
		hello.Session = nil // another agent, or too late: we start anew
		l.hello, err = l.calls.Hello(ctx, hello)
	}
	if errors.Is(err, syscall.ECANCELED) && ctx.Err() == nil {
		err = &farewell{err, true}
	}
	return l, err
}

// explain puts the reason of a broken carrier, or the agent's last word, in the place of what came of it.
func (l *link) explain(err error) error {
	var bye *farewell
	if errors.As(err, &bye) {
		return err
	}
	l.mu.Lock()
	said := l.farewell
	l.mu.Unlock()
	if said != nil {
		return said
	}
	if broken := l.carrier.Err(); broken != nil && !errors.Is(err, context.DeadlineExceeded) {
		return broken
	}
	return err
}

// A farewell is why an agent ended the session.
type farewell struct {
	error
	final bool // somebody wants it to end
}

func (f *farewell) Unwrap() error { return f.error }

// serve takes the streams that the agent opens until the carrier is over, and returns why it is.
func (l *link) serve() error {
	for {
		stream, err := l.carrier.Accept()
		if err != nil {
			return l.why(err)
		}
		go l.incoming(stream)
	}
}

func (l *link) why(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.farewell != nil {
		return l.farewell
	}
	return err
}

// incoming takes a stream for what it was opened for.
func (l *link) incoming(stream *wire.Stream) {
	open, err := stream.Opening()
	if err != nil {
		return // refused and closed
	}
	switch what := open.What.(type) {
	case *wire.Open_Incoming:
		l.connection(Incoming{stream, what.Incoming.Tls}, what.Incoming.Claim)
	case *wire.Open_Farewell:
		l.farewelled(what.Farewell)
		_ = stream.Accepted(netip.AddrPort{})
		l.close()
	case *wire.Open_Notice:
		_ = stream.Accepted(netip.AddrPort{})
		_ = stream.Close()
		l.replica.session.notice(what.Notice)
	default:
		_ = stream.Refuse(&wire.Error{Errno: syscall.EOPNOTSUPP, Cause: fmt.Sprintf("an agent cannot open %T", open.What)})
	}
}

func (l *link) farewelled(f *wire.Farewell) {
	why := f.Err()
	if why == nil {
		why = &wire.Error{Errno: syscall.ECONNRESET, Cause: "the agent ended the session"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.farewell = &farewell{why, f.Final}
}

// close ends the carrier, and all that hangs on it.
func (l *link) close() {
	if l.calls != nil {
		l.calls.Close()
	}
	l.carrier.Close()
}

// leave ends the session on this agent for good: what it held is released when leave returns, unless the agent does not answer.
func (l *link) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	resp, err := l.calls.Leave(ctx, &wire.LeaveRequest{})
	if err == nil { // else the end of the carrier says it, too
		l.mu.Lock()
		l.last = resp.Last
		l.mu.Unlock()
	}
	l.close()
}

// wasLast reports whether nobody is left on the agent.
func (l *link) wasLast() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// environment asks for the variables of the original, NAME=value.
func (l *link) environment(ctx context.Context) ([]string, error) {
	resp, err := l.calls.Environment(ctx, &wire.EnvironmentRequest{})
	if err != nil {
		return nil, l.explain(err)
	}
	env := make([]string, 0, len(resp.Variables))
	for _, kv := range resp.Variables {
		env = append(env, string(kv))
	}
	return env, nil
}

// lookups asks for the files by which the target resolves names.
func (l *link) lookups(ctx context.Context) (Names, error) {
	resp, err := l.calls.Names(ctx, &wire.NamesRequest{})
	if err != nil {
		return Names{}, l.explain(err)
	}
	return Names{ResolvConf: resp.ResolvConf, Hosts: resp.Hosts, Nsswitch: resp.NsswitchConf, Hostname: resp.Hostname}, nil
}

// asked is the answer to a question that was asked before anybody waited for it.
type asked[T any] struct {
	done   chan struct{}
	answer T
	err    error
}

// ask asks in the background. The question ends with its carrier at the latest.
func ask[T any](question func(context.Context) (T, error)) *asked[T] {
	a := &asked[T]{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.answer, a.err = question(context.Background())
	}()
	return a
}

func (a *asked[T]) wait(ctx context.Context) (T, error) {
	select {
	case <-a.done:
		return a.answer, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

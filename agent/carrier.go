package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// carrier is a pipe to a client, with the streams in it. Its session is set by Hello.
type carrier struct {
	*wire.Carrier
	agent *Agent
	log   *slog.Logger

	joined chan struct{} // closed when there is a session

	mu      sync.Mutex
	session *session
	over    bool // too late for a session
}

// helloWait bounds how long what came before Hello is held for it. A client need not wait for the answer to Hello
// before it goes on: that would be one more round trip.
const helloWait = 10 * time.Second

// serve answers the client's streams until the carrier ends, and then ends what hangs on it.
func (a *Agent) serveCarrier(ctx context.Context, pipe io.ReadWriteCloser) {
	c := &carrier{Carrier: wire.Agent(pipe), agent: a, log: a.log, joined: make(chan struct{})}
	a.meet(c)
	var streams sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { c.Carrier.Close() })
	for {
		s, err := c.Accept()
		if err != nil {
			c.log.Debug("carrier over", "err", err)
			break
		}
		streams.Add(1)
		go func() {
			defer streams.Done()
			c.stream(ctx, s)
		}()
	}
	stop()
	cancel()
	a.drop(c)
	c.Close()
	streams.Wait()
}

// meet counts the client among those whom the agent is here for.
func (a *Agent) meet(c *carrier) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.callers[c] = struct{}{}
}

// stream serves one stream by what it was opened for.
func (c *carrier) stream(ctx context.Context, s *wire.Stream) {
	defer s.Close()
	open, err := s.Opening()
	if err != nil {
		c.log.Warn("stream refused", "err", err)
		return
	}
	if err := c.serve(ctx, s, open); err != nil && ctx.Err() == nil {
		c.log.Debug("stream ended", "remote", s.RemoteAddr(), "err", err)
	}
}

func (c *carrier) serve(ctx context.Context, s *wire.Stream, open *wire.Open) error {
	if open.GetCalls() != nil {
		return wire.ServeCalls(ctx, s, &calls{c})
	}
	session, err := c.await(ctx)
	if err != nil {
		return s.Refuse(err)
	}
	switch what := open.What.(type) {
	case *wire.Open_Connect:
		return c.agent.connect(ctx, s, what.Connect)
	case *wire.Open_Watch:
		return session.watch(ctx, s)
	}
	return s.Refuse(&wire.Error{Errno: syscall.EOPNOTSUPP, Cause: fmt.Sprintf("a client cannot open %T", open.What)})
}

// await returns the carrier's session, which may be on its way.
func (c *carrier) await(ctx context.Context) (*session, error) {
	select {
	case <-c.joined:
		return c.current(), nil
	default:
	}
	timer := time.NewTimer(helloWait)
	defer timer.Stop()
	select {
	case <-c.joined:
		return c.current(), nil
	case <-timer.C:
		return nil, &wire.Error{Errno: syscall.EPROTO, Cause: "no Hello came first"}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *carrier) current() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// leave returns the session that the carrier leaves, nil when it has none and will have none.
func (c *carrier) leave() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	return c.session
}

// join makes the carrier one of a session's. A carrier has one session for life.
func (c *carrier) join(s *session) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.session != nil:
		return &wire.Error{Errno: syscall.EPROTO, Cause: "Hello was said before"}
	case c.over:
		return &wire.Error{Errno: syscall.ECONNRESET, Cause: "the carrier is over"}
	}
	if err := s.add(c); err != nil {
		return err
	}
	c.session = s
	close(c.joined)
	return nil
}

// farewellPatience is how long a client may take to hear that its session ends.
const farewellPatience = time.Second

// farewell tells the client why its session ends, and ends the carrier.
func (c *carrier) farewell(why error, final bool) {
	ctx, cancel := context.WithTimeout(context.Background(), farewellPatience)
	defer cancel()
	defer c.Carrier.Close()
	defer context.AfterFunc(ctx, func() { c.Carrier.Close() })() // it may not even take our word
	s, err := c.Open(ctx, wire.FarewellFor(why, final))
	if err != nil {
		return
	}
	defer s.Close()
	if err := s.Opened(ctx); err != nil {
		c.log.Debug("farewell not heard", "err", err)
	}
}

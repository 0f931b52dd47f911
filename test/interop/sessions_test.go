package interop

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

func TestSessionsShareOneConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.original(t, small("grpc", original, fmt.Sprintf(":%d", claimed)), claimed)
	names := []string{"ann", "bob", "eve"}
	for _, name := range names {
		s.session(t, header("x-user: "+name), small("grpc", name, fmt.Sprintf(":%d", claimed))...)
	}
	c := s.channel(t, claimed)
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	var running sync.WaitGroup
	for _, name := range append(names, original) {
		ctx := of(withUser(ctx, name), name)
		running.Go(func() {
			for range 200 {
				if err := ask(ctx, c, name); err != nil {
					t.Errorf("for %s: %v", name, err)
					return
				}
			}
		})
	}
	running.Wait()
	if n := c.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// ask makes a small call and returns an error unless it is answered by who is meant.
func ask(ctx context.Context, c *channel, by string, options ...grpc.CallOption) error {
	out, err := testgrpc.NewTestServiceClient(c).UnaryCall(ctx, &testgrpc.SimpleRequest{FillServerId: true}, options...)
	if err == nil && out.ServerId != by {
		err = fmt.Errorf("answered by %q", out.ServerId)
	}
	return err
}

func TestASessionThatIsKilledLosesItsCallsAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.original(t, small("grpc", original, fmt.Sprintf(":%d", claimed)), claimed)
	session := s.session(t, header(mine), small("grpc", local, fmt.Sprintf(":%d", claimed))...)
	c := s.channel(t, claimed)
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	stolen, passed := c.probe(of(ctx, local), t, probeEcho), c.probe(of(ctx, original), t, probeEcho)
	mustEcho(t, stolen, "before")
	mustEcho(t, passed, "before")
	if err := syscall.Kill(-session.Cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if said, err := tell(stolen, "after"); err == nil {
		t.Errorf("the dead answered %q", said)
	}
	mustEcho(t, passed, "after")
	if err := ask(of(withUser(ctx, "me"), original), c, original); err != nil {
		t.Errorf("a call with the header: %v", err)
	}
	mustEnd(t, passed)
	if n := c.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	c.forgive(t, 1)
}

func withUser(ctx context.Context, name string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-user", name)
}

func TestAConnectionIsLetGoBetweenCallsWhenTheLastSessionIsOver(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.original(t, small("grpc", original, fmt.Sprintf(":%d", claimed)), claimed)
	s.serve(t, "--linger=300ms")
	session := s.session(t, header(mine), small("grpc", local, fmt.Sprintf(":%d", claimed))...)
	c := s.channel(t, claimed)
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	long := c.probe(of(ctx, original), t, probeEcho)
	mustEcho(t, long, "from the first connection")
	if err := ask(of(ctx, local), c, local); err != nil {
		t.Error(err)
	}
	session.Stop(t)
	for c.connections.Load() < 2 {
		if err := ask(of(ctx, original), c, original); err != nil {
			t.Fatal(err)
		}
	}
	mustEcho(t, long, "to the last")
	mustEnd(t, long)
}

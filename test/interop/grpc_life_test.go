package interop

import (
	"context"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/magpie-k8s/magpie/internal/testrun"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

func TestACancelledCallEndsAtItsServerAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.both(t, "grpc", "grpc")
	c := s.channel(t, claimed)
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	waits := map[string]context.CancelFunc{}
	for _, who := range []string{local, original} {
		ctx, cancel := context.WithCancel(of(ctx, who))
		defer cancel()
		waits[who] = cancel
		if _, err := c.probe(ctx, t, probeWait).Header(); err != nil {
			t.Fatal(err)
		}
	}
	for _, who := range []string{local, original} {
		waits[who]()
		end := c.probe(of(ctx, who), t, probeEnd)
		if cause, err := tell(end, ""); err != nil || cause != context.Canceled.Error() {
			t.Errorf("the call to the %s ended by %q, %v", who, cause, err)
		}
		mustEnd(t, end)
	}
	if n := c.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestAnOriginalThatLetsConnectionsGoEndsNoCall(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.both(t, "grpc-aging", "grpc")
	const connections = 4
	s.callUntil(t, func(c *channel) bool { return c.connections.Load() >= connections })
}

func TestALocalProcessThatLetsConnectionsGoEndsNoCall(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.both(t, "grpc", "grpc-aging")
	begin := time.Now()
	c := s.callUntil(t, func(*channel) bool { return time.Since(begin) > 4*maxConnectionAge })
	if n := c.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// callUntil makes calls of both kinds, some of them long, until enough is seen.
func (s *stage) callUntil(tb testing.TB, enough func(*channel) bool) *channel {
	tb.Helper()
	c := s.channel(tb, claimed)
	ctx, cancel := context.WithTimeout(tb.Context(), callTime)
	defer cancel()
	var running sync.WaitGroup
	for _, who := range []string{local, original} {
		long := c.probe(of(ctx, who), tb, probeEcho)
		mustEcho(tb, long, "from the first connection")
		for range 4 {
			running.Go(func() {
				for client := testgrpc.NewTestServiceClient(c); !enough(c) && ctx.Err() == nil; {
					if _, err := client.EmptyCall(of(ctx, who), &testgrpc.Empty{}); err != nil {
						tb.Errorf("call to the %s: %v", who, err)
						return
					}
				}
			})
		}
		defer mustEnd(tb, long)
		defer mustEcho(tb, long, "to the last")
	}
	running.Wait()
	c.mustHaveHeard(tb, 1)
	return c
}

// TestServersThatPingAreAnswered needs two seconds: no grpc-go server pings sooner.
func TestServersThatPingAreAnswered(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.both(t, "grpc-pinging", "grpc-pinging")
	c := s.channel(t, claimed)
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	var idle []grpc.ClientStream
	for _, who := range []string{local, original} {
		stream := c.probe(of(ctx, who), t, probeEcho)
		mustEcho(t, stream, "before")
		idle = append(idle, stream)
	}
	const pingAndTimeout = 2 * time.Second
	<-time.After(pingAndTimeout + 500*time.Millisecond)
	for _, stream := range idle {
		mustEcho(t, stream, "after")
		mustEnd(t, stream)
	}
	if n := c.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestAnOriginalThatStopsLeavesTheLocalProcessItsCalls(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	server := s.original(t, small("grpc", original, ":8080"), claimed)
	s.session(t, header(mine), small("grpc", local, ":8080")...)
	c := s.channel(t, claimed)
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	stolen, passed := c.probe(of(ctx, local), t, probeEcho), c.probe(of(ctx, original), t, probeEcho)
	mustEcho(t, stolen, "before")
	mustEcho(t, passed, "before")
	stop := c.probe(of(ctx, original), t, probeStop)
	if _, err := tell(stop, ""); err != nil {
		t.Fatal(err)
	}
	mustEnd(t, stop)
	mustEcho(t, stolen, "while it stops")
	mustEcho(t, passed, "while it stops")
	mustEnd(t, passed)
	mustExit(t, server)
	mustEcho(t, stolen, "when it is gone")
	mustEnd(t, stolen)
	client := testgrpc.NewTestServiceClient(c)
	if _, err := client.EmptyCall(of(ctx, local), &testgrpc.Empty{}, grpc.WaitForReady(true)); err != nil {
		t.Errorf("a new call to the local process: %v", err)
	}
	lost := s.channel(t, claimed) // one that does not try again
	err := lost.Invoke(ctx, "/grpc.testing.TestService/EmptyCall", &testgrpc.Empty{}, &testgrpc.Empty{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a new call to the original: %v", err)
	}
}

func TestALocalProcessThatStopsLeavesItsCallsToTheOriginal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.original(t, small("grpc", original, ":8080"), claimed)
	session := s.session(t, header(mine), small("grpc", local, ":8080")...)
	c := s.channel(t, claimed)
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	stolen, passed := c.probe(of(ctx, local), t, probeEcho), c.probe(of(ctx, original), t, probeEcho)
	mustEcho(t, stolen, "before")
	mustEcho(t, passed, "before")
	stop := c.probe(of(ctx, local), t, probeStop)
	if _, err := tell(stop, ""); err != nil {
		t.Fatal(err)
	}
	mustEnd(t, stop)
	mustEcho(t, stolen, "while it stops")
	mustEnd(t, stolen)
	session.Status(t)
	mustEcho(t, passed, "when it is gone")
	mustEnd(t, passed)
	out := &testgrpc.SimpleResponse{}
	err := c.Invoke(of(metadata.AppendToOutgoingContext(ctx, "x-user", "me"), original), "/grpc.testing.TestService/UnaryCall", &testgrpc.SimpleRequest{FillServerId: true}, out)
	if err != nil || out.ServerId != original {
		t.Errorf("a call with the header: answered by %q, %v", out.ServerId, err)
	}
}

// mustExit waits for the end of a server.
func mustExit(tb testing.TB, server *exec.Cmd) {
	tb.Helper()
	ended := make(chan struct{})
	go func() {
		_ = server.Wait() // its status says nothing
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(testrun.Patience):
		tb.Fatal("the server does not end")
	}
}

func TestAServerThatDoesNotReadSlowsItsOwnCallAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.both(t, "grpc", "grpc")
	c := s.channel(t, claimed)
	for _, slow := range []string{local, original} {
		t.Run(slow, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), callTime)
			defer cancel()
			stuck, sent := c.stuff(of(ctx, slow), t)
			for _, who := range []string{local, original} {
				stream := c.probe(of(ctx, who), t, probeEcho)
				for range 32 {
					mustEcho(t, stream, strings.Repeat("m", 1<<20))
				}
				mustEnd(t, stream)
			}
			stuck()
			const most = 16 << 20 // what all windows on the way hold
			if n := <-sent; n > most {
				t.Errorf("%d bytes were taken by somebody for one who reads nothing", n)
			}
		})
	}
}

// stuff sends to one who does not read, as fast as it is taken, until told to stop; then it says how many bytes were taken.
func (c *channel) stuff(ctx context.Context, tb testing.TB) (stop context.CancelFunc, sent <-chan int) {
	tb.Helper()
	ctx, stop = context.WithCancel(ctx)
	tb.Cleanup(stop)
	stream := c.probe(ctx, tb, probeWait)
	if _, err := stream.Header(); err != nil {
		tb.Fatal(err)
	}
	all := make(chan int, 1)
	go func() {
		n, message := 0, &testgrpc.Payload{Body: make([]byte, 1<<16)}
		for stream.SendMsg(message) == nil {
			n += len(message.Body)
		}
		all <- n
	}()
	return stop, all
}

func TestAClientThatDoesNotReadACallSlowsThatCallAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.both(t, "grpc", "grpc")
	c := s.channel(t, claimed)
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	const size, answers = 1 << 16, 256
	var unread []testgrpc.TestService_StreamingOutputCallClient
	for _, who := range []string{local, original} {
		request := &testgrpc.StreamingOutputCallRequest{}
		for range answers {
			request.ResponseParameters = append(request.ResponseParameters, &testgrpc.ResponseParameters{Size: size})
		}
		stream, err := testgrpc.NewTestServiceClient(c).StreamingOutputCall(of(ctx, who), request)
		if err != nil {
			t.Fatal(err)
		}
		unread = append(unread, stream)
	}
	for _, who := range []string{local, original} {
		stream := c.probe(of(ctx, who), t, probeEcho)
		for range 32 {
			mustEcho(t, stream, strings.Repeat("m", 1<<20))
		}
		mustEnd(t, stream)
	}
	for _, stream := range unread {
		n := 0
		for {
			got, err := stream.Recv()
			if err != nil {
				if n != answers || ignoreEOF(err) != nil {
					t.Errorf("%d answers of %d, %v", n, answers, err)
				}
				break
			}
			if len(got.Payload.Body) != size {
				t.Errorf("answer %d has %d bytes", n, len(got.Payload.Body))
			}
			n++
		}
	}
}

package interop

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/interop"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// cases are those of gRPC's interop suite, as functions.
var cases = map[string]func(context.Context, *grpc.ClientConn){
	"empty_unary":                 call(interop.DoEmptyUnaryCall),
	"large_unary":                 call(interop.DoLargeUnaryCall),
	"client_streaming":            call(interop.DoClientStreaming),
	"server_streaming":            call(interop.DoServerStreaming),
	"ping_pong":                   call(interop.DoPingPong),
	"empty_stream":                call(interop.DoEmptyStream),
	"timeout_on_sleeping_server":  call(interop.DoTimeoutOnSleepingServer),
	"cancel_after_begin":          call(interop.DoCancelAfterBegin),
	"cancel_after_first_response": call(interop.DoCancelAfterFirstResponse),
	"status_code_and_message":     call(interop.DoStatusCodeAndMessage),
	"special_status_message":      call(interop.DoSpecialStatusMessage),
	"custom_metadata":             call(interop.DoCustomMetadata),
	"unimplemented_method":        interop.DoUnimplementedMethod,
	"unimplemented_service": func(ctx context.Context, c *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(c))
	},
	"pick_first_unary": func(ctx context.Context, c *grpc.ClientConn) {
		interop.DoPickFirstUnary(ctx, testgrpc.NewTestServiceClient(c))
	},
}

func call(do func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, c *grpc.ClientConn) { do(ctx, testgrpc.NewTestServiceClient(c)) }
}

// rounds is how often all cases of both kinds run at the same time.
const rounds = 3

func TestGRPCCallsOfBothKindsShareOneConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.both(t, "grpc", "grpc")
	c := s.channel(t, claimed)
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	long := map[string]grpc.ClientStream{}
	for _, who := range []string{local, original} {
		long[who] = c.probe(of(ctx, who), t, probeEcho)
	}
	for range rounds {
		s.allCases(ctx, t, c)
		for who, stream := range long {
			mustEcho(t, stream, strings.Repeat(who, 1<<15))
		}
	}
	for _, stream := range long {
		mustEnd(t, stream)
	}
	c.mustHaveHeard(t, rounds*len(cases))
	if n := c.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// both starts a server as the original, on both ports, and one as the local process of those with the header.
func (s *stage) both(tb testing.TB, theirs, ours string) {
	tb.Helper()
	s.original(tb, small(theirs, original, fmt.Sprintf(":%d,:%d", claimed, unclaimed)), claimed, unclaimed)
	s.session(tb, header(mine), small(ours, local, fmt.Sprintf(":%d", claimed))...)
}

// allCases runs all cases for both servers at once.
func (s *stage) allCases(ctx context.Context, tb testing.TB, c *channel) {
	tb.Helper()
	var running sync.WaitGroup
	for name, do := range cases {
		for _, who := range []string{local, original} {
			running.Go(func() {
				defer func() {
					if fatal := recover(); fatal != nil {
						tb.Errorf("%s, for the %s: %v", name, who, fatal)
					}
				}()
				do(of(ctx, who), c.ClientConn)
			})
		}
	}
	running.Wait()
}

// fatal is a log in which a case of the suite that fails is a panic: it would end the process.
type fatal struct{ grpclog.LoggerV2 }

func newFatal() fatal { return fatal{grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)} }

func (fatal) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (fatal) Fatalln(args ...any)               { panic(fmt.Sprintln(args...)) }
func (fatal) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// TestGRPCServersAndClientsSeeTheSame compares all that both ends can see of a call: direct, passed and stolen.
func TestGRPCServersAndClientsSeeTheSame(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.both(t, "grpc", "grpc")
	direct := s.whatIsSeen(t, unclaimed, original)
	if len(direct) < 20 {
		t.Fatalf("too little to compare: %q", direct)
	}
	for _, who := range []string{original, local} {
		t.Run(who, func(t *testing.T) {
			through := s.whatIsSeen(t, claimed, who)
			for i, line := range through {
				if through[i] = strings.ReplaceAll(line, who, original); !slices.Contains(direct, through[i]) {
					t.Errorf("through us: %.300s", through[i])
				}
			}
			for _, line := range direct {
				if !slices.Contains(through, line) {
					t.Errorf("direct: %.300s", line)
				}
			}
		})
	}
}

// whatIsSeen makes one call of each kind and writes down what comes of it.
func (s *stage) whatIsSeen(tb testing.TB, port int, who string) []string {
	tb.Helper()
	var seen notes
	c := s.channel(tb, port, grpc.WithStatsHandler(&seen), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
	ctx, cancel := context.WithTimeout(tb.Context(), callTime)
	defer cancel()
	ctx = of(ctx, who)
	for _, message := range messages {
		seen.call(ctx, tb, c, "message", probeEcho, message)
		seen.call(ctx, tb, c, "compressed", probeEcho, message, grpc.UseCompressor(gzip.Name))
	}
	for _, words := range []string{"", "plain", "50 % of ☺ 😈", strings.Repeat("long ", 1000), "\r\n\t\x00 \x7f"} {
		seen.call(ctx, tb, c, "trailers only", probeFail, words)
	}
	for _, values := range metadatas {
		seen.call(metadata.NewOutgoingContext(ctx, values), tb, c, "metadata", probeEcho, "x")
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
	defer cancel()
	seen.call(late, tb, c, "deadline", probeDeadline, "")
	seen.call(ctx, tb, c, "no such method", "/magpie.Probe/None", "")
	seen.call(ctx, tb, c, "no such service", "/none.None/None", "")
	return seen.lines
}

// messages go up to just below and just above what a server takes by default, 4 MiB.
var messages = []string{
	"", "x", strings.Repeat("0123456789abcdef", 1<<10), strings.Repeat("four megabytes, ", 1<<18-1), strings.Repeat("too much for it ", 1<<18+1),
}

var metadatas = []metadata.MD{
	metadata.Pairs("x-echo", ""),
	metadata.Pairs("x-echo", "one", "x-echo", "two", "x-echo", "one"),
	metadata.Pairs("x-echo", strings.Repeat("long ", 1500)+"."),
	metadata.Pairs("x-echo-bin", "\x00\x01\xfe\xff", "x-echo-bin", ""),
	metadata.Pairs("x-echo-bin", strings.Repeat("\x00\xff", 2000)),
	metadata.Pairs("authorization", "never indexed", "cookie", "a=1", "cookie", "b=2", "x-echo", "c, d"),
	metadata.Join(metadata.Pairs("x-echo", "of many"), many(200)),
}

// many is metadata of many names, more than fit into the client's table.
func many(n int) metadata.MD {
	md := metadata.MD{}
	for i := range n {
		md.Set(fmt.Sprintf("x-name-%d", i), strings.Repeat("v", i))
	}
	return md
}

// notes are what was seen. It is a handler of statistics too, since nothing else tells how a message came.
type notes struct {
	mu    sync.Mutex
	lines []string
	how   string // the answer to the call under way came
}

// call makes one call with one message and notes the answer, its metadata and its end.
func (n *notes) call(ctx context.Context, tb testing.TB, c *channel, what, method, words string, options ...grpc.CallOption) {
	tb.Helper()
	stream := c.probe(ctx, tb, method, options...)
	sent := stream.SendMsg(&testgrpc.Payload{Body: []byte(words)})
	if sent == nil {
		_ = stream.CloseSend()
	}
	var answers []string
	var err error
	for err == nil {
		var out testgrpc.Payload
		if err = stream.RecvMsg(&out); err == nil {
			answers = append(answers, string(out.Body))
		}
	}
	header, _ := stream.Header()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf("%s: %d bytes to %s: %s header %q, answers %q, trailer %q, %v",
		what, len(words), method, n.how, header, answers, stream.Trailer(), status.Convert(err)))
}

// TagRPC does nothing; it is there for stats.Handler.
func (n *notes) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC notes how the answer to a call came.
func (n *notes) HandleRPC(_ context.Context, what stats.RPCStats) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch what := what.(type) {
	case *stats.Begin:
		n.how = ""
	case *stats.InHeader:
		n.how += fmt.Sprintf("with a head compressed by %q,", what.Compression)
	}
}

// TagConn does nothing.
func (n *notes) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (n *notes) HandleConn(context.Context, stats.ConnStats) {}

package interop

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// callTime bounds each test's calls.
const callTime = 40 * time.Second

// A channel is a gRPC channel to the target that watches who answers.
type channel struct {
	*grpc.ClientConn
	connections atomic.Int32 // that were made

	mu       sync.Mutex
	answered map[string]int // calls, by who answered
	astray   []string       // calls that someone else answered than who was asked
}

// channel opens one from the client's namespace.
func (s *stage) channel(tb testing.TB, port int, options ...grpc.DialOption) *channel {
	tb.Helper()
	c := &channel{answered: map[string]int{}}
	options = append(options,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(_ context.Context, addr string) (net.Conn, error) {
			c.connections.Add(1)
			return dial(s.net.Client, addr)
		}),
		grpc.WithUnaryInterceptor(c.unary), grpc.WithStreamInterceptor(c.stream),
	)
	conn, err := grpc.NewClient("passthrough:///"+s.at(port), options...)
	if err != nil {
		tb.Fatal(err)
	}
	c.ClientConn = conn
	tb.Cleanup(func() {
		conn.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.astray) > 0 {
			tb.Errorf("%d calls were not answered by whom they were for: %s, ...", len(c.astray), c.astray[0])
		}
	})
	return c
}

// asked is the key of the name of who is to answer, in a context.
type asked struct{}

// local and original are the servers' names, equally long.
const (
	local    = "my-local"
	original = "original"
)

// of asks for an answer of the local process, or of the original.
func of(ctx context.Context, who string) context.Context { return context.WithValue(ctx, asked{}, who) }

// address puts into the metadata what makes a call one for the local process.
func address(ctx context.Context) context.Context {
	if ctx.Value(asked{}) == local {
		return metadata.AppendToOutgoingContext(ctx, "x-user", "me")
	}
	return ctx
}

func (c *channel) unary(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	var trailer metadata.MD
	err := invoke(address(ctx), method, in, out, conn, append(options, grpc.Trailer(&trailer))...)
	c.saw(ctx, method, trailer, err)
	return err
}

func (c *channel) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(address(ctx), desc, conn, method, options...)
	if err != nil {
		c.saw(ctx, method, nil, err)
		return nil, err
	}
	return &watched{ClientStream: stream, channel: c, ctx: ctx, method: method, one: !desc.ServerStreams}, nil
}

// watched is a stream of which it is noted who answered.
type watched struct {
	grpc.ClientStream
	channel *channel
	ctx     context.Context
	method  string
	one     bool // answer, after which nobody asks for more
}

func (w *watched) RecvMsg(m any) error {
	err := w.ClientStream.RecvMsg(m)
	if err != nil || w.one {
		w.channel.saw(w.ctx, w.method, w.Trailer(), ignoreEOF(err))
	}
	return err
}

func (c *channel) saw(ctx context.Context, method string, trailer metadata.MD, err error) {
	who, _ := ctx.Value(asked{}).(string)
	by := fmt.Sprint(trailer[answeredBy])
	c.mu.Lock()
	defer c.mu.Unlock()
	switch code := status.Code(err); {
	case by == fmt.Sprint([]string{who}):
		c.answered[who]++
	case len(trailer) == 0 && (code == codes.Canceled || code == codes.DeadlineExceeded): // before anybody answered
	default:
		c.astray = append(c.astray, fmt.Sprintf("%s for the %s: by %s, %v", method, who, by, err))
	}
}

// forgive forgets n calls that went astray, as they had to.
func (c *channel) forgive(tb testing.TB, n int) {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.astray) != n {
		tb.Errorf("%d calls went astray, not %d: %q", len(c.astray), n, c.astray)
	}
	c.astray = nil
}

// mustHaveHeard fails unless both have answered as many calls at least.
func (c *channel) mustHaveHeard(tb testing.TB, least int) {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, who := range []string{local, original} {
		if c.answered[who] < least {
			tb.Errorf("the %s answered %d calls, want %d or more", who, c.answered[who], least)
		}
	}
}

// duplex is the description of a stream on which both sides speak at any time.
var duplex = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// probe opens a stream to one of the methods that show what a server sees.
func (c *channel) probe(ctx context.Context, tb testing.TB, method string, options ...grpc.CallOption) grpc.ClientStream {
	tb.Helper()
	stream, err := c.NewStream(ctx, duplex, method, options...)
	if err != nil {
		tb.Fatalf("%s: %v", method, err)
	}
	return stream
}

// tell sends words and returns what comes back.
func tell(stream grpc.ClientStream, words string) (string, error) {
	if err := stream.SendMsg(&testgrpc.Payload{Body: []byte(words)}); ignoreEOF(err) != nil {
		return "", err
	}
	var out testgrpc.Payload
	err := stream.RecvMsg(&out)
	return string(out.Body), err
}

// mustEcho fails unless words come back.
func mustEcho(tb testing.TB, stream grpc.ClientStream, words string) {
	tb.Helper()
	if got, err := tell(stream, words); err != nil || got != words {
		tb.Fatalf("%d bytes came back of %d, %v", len(got), len(words), err)
	}
}

// mustEnd ends a stream from the client's side and fails unless the server ends it well.
func mustEnd(tb testing.TB, stream grpc.ClientStream) {
	tb.Helper()
	if err := stream.CloseSend(); err != nil {
		tb.Error(err)
	}
	var out testgrpc.Payload
	if err := stream.RecvMsg(&out); ignoreEOF(err) != nil || err == nil {
		tb.Errorf("after the last message: %q, %v", out.Body, err)
	}
}

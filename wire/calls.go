package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A Caller makes the calls of the service Agent on one stream. Errors are *Error whenever the agent had something to
// say. It is safe for concurrent use.
type Caller struct {
	AgentService
	client *ttrpc.Client
	guard  *guard
}

// Calls opens the stream for calls. The caller closes what it returns.
func (c *Carrier) Calls(ctx context.Context) (*Caller, error) {
	s, err := c.Open(ctx, &Open{What: &Open_Calls{Calls: &Calls{}}})
	if err != nil {
		return nil, err
	}
	g := newGuard(s, answers)
	client := ttrpc.NewClient(g, ttrpc.WithUnaryClientInterceptor(g.call))
	return &Caller{AgentService: NewAgentClient(client), client: client, guard: g}, nil
}

// Close ends the stream. Calls that are under way fail.
func (c *Caller) Close() error {
	err := c.guard.Close()
	// ttrpc shall see the end for itself: of an answer that came while it was told to end, it complains on stderr.
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = c.client.UserOnCloseWait(ctx)
	return errors.Join(err, c.client.Close())
}

// call lets an answer that nobody waits for any more arrive in peace: ttrpc would complain on stderr.
func (g *guard) call(ctx context.Context, req *ttrpc.Request, resp *ttrpc.Response, _ *ttrpc.UnaryClientInfo, invoke ttrpc.Invoker) error {
	if len(req.Payload) > maxRequest-callOverhead {
		return tooLong(len(req.Payload))
	}
	done := make(chan error, 1)
	go func() { done <- invoke(context.WithoutCancel(ctx), req, resp) }()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-done:
		if err != nil {
			return g.explain(err)
		}
		if resp.Status != nil && resp.Status.Code != int32(codes.OK) {
			return errorOf(status.ErrorProto(resp.Status))
		}
		return nil
	}
}

// explain puts the reason of a broken stream in the place of ttrpc's words.
func (g *guard) explain(err error) error {
	if _, ok := status.FromError(err); ok {
		return errorOf(err)
	}
	select {
	case <-g.over:
		if why := g.reason(); why == nil || errors.Is(why, net.ErrClosed) {
			return net.ErrClosed // we closed it
		}
	default:
	}
	if why := g.reason(); why != nil && !errors.Is(why, io.EOF) {
		return why
	}
	if errors.Is(err, ttrpc.ErrClosed) {
		return &Error{Errno: syscall.ECONNRESET, Cause: "agent closed the calls"}
	}
	return err
}

// ServeCalls answers the calls on a stream, until the peer closes it, it breaks, or ctx ends. It accepts and closes
// the stream. The context of a call ends with the stream.
func ServeCalls(ctx context.Context, s *Stream, agent AgentService) error {
	if err := s.Accepted(netip.AddrPort{}); err != nil {
		return errors.Join(err, s.Close())
	}
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(respond))
	if err != nil {
		panic("wire: " + err.Error()) // no option of ours can fail
	}
	RegisterAgentService(server, agent)
	g := newGuard(s, requests)
	defer context.AfterFunc(ctx, func() { _ = g.Close() })()
	quiet := log.WithLogger(ctx, logrus.NewEntry(&logrus.Logger{Out: io.Discard, Formatter: &logrus.TextFormatter{}}))
	_ = server.Serve(quiet, &once{conn: g}) // always the end of our one connection
	if why := g.reason(); why != nil && !errors.Is(why, io.EOF) && ctx.Err() == nil {
		return why
	}
	return ctx.Err()
}

// respond runs a call, and dresses its error so that it crosses.
func respond(ctx context.Context, unmarshal ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, method ttrpc.Method) (any, error) {
	resp, err := method(ctx, unmarshal)
	if m, ok := resp.(proto.Message); ok && err == nil && proto.Size(m) > maxAnswer-callOverhead {
		err = tooLong(proto.Size(m))
	}
	if err == nil {
		return resp, nil
	}
	if _, ok := status.FromError(err); ok {
		return nil, err // the request did not decode
	}
	return nil, statusOf(err)
}

func tooLong(size int) error {
	return &Error{Errno: syscall.EMSGSIZE, Cause: fmt.Sprintf("call: a message of %d bytes is too long", size)}
}

// once is a listener with one connection; it ends when the connection is closed.
type once struct {
	conn *guard
	take sync.Once
}

func (o *once) Accept() (net.Conn, error) {
	var first net.Conn
	o.take.Do(func() { first = o.conn })
	if first != nil {
		return first, nil
	}
	<-o.conn.over
	return nil, net.ErrClosed
}

func (o *once) Close() error   { return o.conn.Close() }
func (o *once) Addr() net.Addr { return o.conn.LocalAddr() }

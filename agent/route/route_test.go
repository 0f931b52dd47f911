package route

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/magpie-k8s/magpie/filters"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// A stage is a Proxy with its clients' side on a socket.
type stage struct {
	tb    testing.TB
	proxy *Proxy
	port  *Port
	addr  string
}

// mustStage serves a Proxy before the original at the address original; "" means that there is none.
func mustStage(tb testing.TB, original string, linger time.Duration) *stage {
	tb.Helper()
	s := &stage{tb: tb, port: &Port{}}
	s.proxy = New(Config{Linger: linger, DialOriginal: func(ctx context.Context, _, _ netip.AddrPort) (net.Conn, error) {
		if original == "" {
			return nil, errors.New("nobody listens")
		}
		return new(net.Dialer).DialContext(ctx, "tcp", original)
	}})
	s.addr = mustListen(tb, func(ctx context.Context, conn net.Conn) { s.proxy.Serve(ctx, conn, s.port) })
	return s
}

// mustServe returns the client's end of a pipe that the stage serves.
func mustServe(tb testing.TB, s *stage) net.Conn {
	tb.Helper()
	near, far := net.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() { s.proxy.Serve(context.Background(), far, s.port) })
	tb.Cleanup(func() {
		_ = near.Close()
		serving.Wait()
	})
	return near
}

// mustListen calls serve for each connection to the address that it returns. When the test ends it closes them and waits.
func mustListen(tb testing.TB, serve func(context.Context, net.Conn)) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				defer stop()
				defer conn.Close()
				serve(ctx, conn)
			})
		}
	})
	tb.Cleanup(func() {
		cancel()
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// mustHTTP serves handler with net/http.
func mustHTTP(tb testing.TB, handler http.HandlerFunc) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	tb.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

func mustDial(tb testing.TB, addr string) *net.TCPConn {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	tb.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

func mustFilter(tb testing.TB, expr string) *filters.Filter {
	tb.Helper()
	if expr == "" {
		return nil
	}
	f, err := filters.Header(expr)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// claim adds a claim of a session whose local process listens at addr. expr "" claims whole connections.
func (s *stage) claim(session, expr, addr string) (remove func()) {
	s.tb.Helper()
	return s.port.Add(&Claim{Session: session, Filter: mustFilter(s.tb, expr), Open: dialLocal(addr)})
}

func dialLocal(addr string) func(context.Context, Visit) (Stream, error) {
	return func(ctx context.Context, _ Visit) (Stream, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return conn.(*net.TCPConn), nil
	}
}

// endsLate is an Open that seems to succeed: the errno comes with the first Read, as it does through a tunnel, once that many
// bytes were written.
func endsLate(errno error, after int) func(context.Context, Visit) (Stream, error) {
	return func(context.Context, Visit) (Stream, error) {
		near, far := net.Pipe()
		s := &lateStream{Conn: near, errno: errno, wrote: make(chan struct{})}
		go s.swallow(far, after)
		return s, nil
	}
}

type lateStream struct {
	net.Conn
	errno error
	wrote chan struct{}
}

func (s *lateStream) swallow(far net.Conn, after int) {
	_, _ = io.CopyN(io.Discard, far, int64(after))
	close(s.wrote)
	_, _ = io.Copy(io.Discard, far)
}

func (s *lateStream) Read([]byte) (int, error) {
	<-s.wrote
	return 0, s.errno
}

func (s *lateStream) CloseWrite() error { return nil }

// A step is one exchange by hand: the client says, the other side must read exactly that and answers, the client must read
// exactly the answer.
type step struct{ say, answer string }

// scripted plays the other side of steps, and closes.
func scripted(tb testing.TB, steps ...step) func(context.Context, net.Conn) {
	return func(_ context.Context, conn net.Conn) {
		for _, s := range steps {
			if !expect(tb, conn, s.say) {
				return
			}
			if _, err := io.WriteString(conn, s.answer); err != nil {
				tb.Errorf("write answer: %v", err)
			}
		}
		rest, _ := io.ReadAll(conn)
		if len(rest) > 0 {
			tb.Errorf("left over: %q", rest)
		}
	}
}

// expect reads exactly want.
func expect(tb testing.TB, conn net.Conn, want string) bool {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	n, err := io.ReadFull(conn, got)
	if err != nil || string(got) != want {
		tb.Errorf("read %q, %v, want %q", got[:n], err, want)
		return false
	}
	return true
}

// play is the client of steps.
func play(tb testing.TB, conn net.Conn, steps ...step) {
	tb.Helper()
	for _, s := range steps {
		if _, err := io.WriteString(conn, s.say); err != nil {
			tb.Fatal(err)
		}
		if !expect(tb, conn, s.answer) {
			tb.FailNow()
		}
	}
}

// expectEnd reads to the end of the stream, which must be proper and come at once.
func expectEnd(tb testing.TB, conn net.Conn) {
	tb.Helper()
	rest, err := io.ReadAll(conn)
	if err != nil || len(rest) > 0 {
		tb.Fatalf("read %q, %v, want the end", rest, err)
	}
}

const (
	get      = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
	getMine  = "GET / HTTP/1.1\r\nHost: shop\r\nX-User: me\r\n\r\n"
	mine     = "X-User: me"
	original = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\noriginal"
	local    = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlocal"
)

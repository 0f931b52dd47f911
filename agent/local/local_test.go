package local

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// pairs are what can be asked for.
var pairs = []struct {
	name     string
	from, to Protocol
}{{"h1 to h2c", HTTP1, HTTP2}, {"h2 to h1", HTTP2, HTTP1}}

// mustServe runs a local process that speaks a protocol, and returns its address.
func mustServe(tb testing.TB, speaks Protocol, h http.HandlerFunc) string {
	tb.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = protocols(speaks)
	s.Config.DisableGeneralOptionsHandler = true
	s.Config.ErrorLog = silent()
	s.Start()
	tb.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// A stage is an adapter between a client and a local process at an address.
type stage struct {
	tb       testing.TB
	addr     string
	from, to Protocol

	mu        sync.Mutex
	opened    []*counted
	now, peak int      // of opened, not closed
	streams   []Stream // adapted
}

// counted is a stream to the local process that knows whether it was closed.
type counted struct {
	*net.TCPConn
	stage  *stage
	once   sync.Once
	closed chan struct{}
}

func (c *counted) Close() error {
	c.once.Do(func() {
		c.stage.mu.Lock()
		defer c.stage.mu.Unlock()
		c.stage.now--
		close(c.closed)
	})
	return c.TCPConn.Close()
}

func (s *stage) open(ctx context.Context) (Stream, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	c := &counted{TCPConn: conn.(*net.TCPConn), stage: s, closed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now++
	s.peak = max(s.peak, s.now)
	s.opened = append(s.opened, c)
	return c, nil
}

// dial opens an adapted stream.
func (s *stage) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	stream, err := Adapt(ctx, s.open, s.from, s.to)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams = append(s.streams, stream)
	return stream, nil
}

func (s *stage) mustDial() Stream {
	s.tb.Helper()
	conn, err := s.dial(context.Background(), "", "")
	if err != nil {
		s.tb.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn.(Stream)
}

// mustStage makes a stage. When the test ends, it closes what it adapted and waits until nothing is left of it.
func mustStage(tb testing.TB, addr string, from, to Protocol) *stage {
	s := &stage{tb: tb, addr: addr, from: from, to: to}
	tb.Cleanup(func() {
		s.mu.Lock()
		streams, opened := s.streams, s.opened
		s.mu.Unlock()
		for _, stream := range streams {
			_ = stream.Close()
		}
		for _, c := range opened {
			select {
			case <-c.closed:
			case <-time.After(patience):
				tb.Error("a stream to the local process was left open")
			}
		}
	})
	return s
}

// client returns an HTTP client that speaks over the stage.
func (s *stage) client() *http.Client { return mustClient(s.tb, s.from, s.dial) }

func mustClient(tb testing.TB, speaks Protocol, dial func(context.Context, string, string) (net.Conn, error)) *http.Client {
	t := &http.Transport{DialContext: dial, Protocols: protocols(speaks), DisableCompression: true, ExpectContinueTimeout: patience}
	tb.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// mustClientConn speaks HTTP/2 on one stream.
func mustClientConn(tb testing.TB, stream Stream) *http.ClientConn {
	tb.Helper()
	t := &http.Transport{Protocols: protocols(HTTP2), DialContext: func(context.Context, string, string) (net.Conn, error) { return stream, nil }}
	c, err := t.NewClientConn(tb.Context(), "http", "local:80")
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func mustRequest(tb testing.TB, method, url string, body io.Reader) *http.Request {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), method, url, body)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func mustDo(tb testing.TB, c *http.Client, r *http.Request) (*http.Response, string) {
	tb.Helper()
	res, err := c.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res, string(body)
}

// mustListen calls serve for each connection to the address that it returns.
func mustListen(tb testing.TB, serve func(net.Conn)) string {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(patience))
				serve(conn)
			})
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

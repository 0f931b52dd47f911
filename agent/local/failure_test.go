package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestAFailureToOpenIsAdapts(t *testing.T) {
	for _, pair := range pairs {
		_, err := Adapt(t.Context(), func(context.Context) (Stream, error) { return nil, syscall.ECONNREFUSED }, pair.from, pair.to)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v", pair.name, err)
		}
	}
}

// late is a stream to a local process that did not accept, as comes to light only later.
type late struct {
	net.Conn
	errno syscall.Errno
}

func (l late) CloseWrite() error           { return nil }
func (l late) Write(b []byte) (int, error) { return len(b), nil }
func (l late) Read([]byte) (int, error)    { return 0, l.errno }
func (l late) Close() error                { return nil }
func (l late) LocalAddr() net.Addr         { return pipeAddr{} }
func (l late) RemoteAddr() net.Addr        { return pipeAddr{} }

// A request of HTTP/2 that nobody can have acted on, or that may be asked twice, is refused, whatever else is under way.
func TestInHTTP2AnUnansweredRequestIsRefused(t *testing.T) {
	gone := mustListen(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1000)) })
	for name, c := range map[string]struct {
		dead func(context.Context) (Stream, error)
		acts bool // the local process may have acted
	}{
		"open refused": {func(context.Context) (Stream, error) { return nil, syscall.ECONNREFUSED }, false},
		"refused":      {func(context.Context) (Stream, error) { return late{errno: syscall.EHOSTUNREACH}, nil }, false},
		"closed": {func(ctx context.Context) (Stream, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", gone)
			if err != nil {
				return nil, err
			}
			return conn.(*net.TCPConn), nil
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			release, begun := make(chan struct{}), make(chan struct{})
			s := mustStage(t, mustServe(t, HTTP1, func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).Flush()
				close(begun)
				<-release
				_, _ = io.WriteString(w, "stayed")
			}), HTTP2, HTTP1)
			var opened atomic.Int32
			stream, err := Adapt(t.Context(), func(ctx context.Context) (Stream, error) {
				if opened.Add(1) == 1 {
					return s.open(ctx)
				}
				return c.dead(ctx)
			}, HTTP2, HTTP1)
			if err != nil {
				t.Fatal(err)
			}
			s.streams = append(s.streams, stream)
			_ = stream.SetDeadline(time.Now().Add(patience))
			cc := mustClientConn(t, stream)
			other, err := cc.RoundTrip(mustRequest(t, "GET", "http://local/", nil))
			if err != nil {
				t.Fatal(err)
			}
			defer other.Body.Close()
			<-begun
			for _, method := range []string{"GET", "POST"} {
				res, err := cc.RoundTrip(mustRequest(t, method, "http://local/", io.MultiReader(strings.NewReader("hello"))))
				if c.acts && method == "POST" {
					if err != nil || res.StatusCode != 502 {
						t.Errorf("%s: %v, %v", method, res, err)
					}
					_ = res.Body.Close()
					continue
				}
				// net/http says so in words only: it could not repeat the body.
				if err == nil || !strings.Contains(err.Error(), "REFUSED_STREAM") {
					t.Errorf("%s: %v, %v", method, res, err)
				}
			}
			close(release)
			if body, err := io.ReadAll(other.Body); string(body) != "stayed" || err != nil {
				t.Errorf("another request: %q, %v", body, err)
			}
		})
	}
}

// readRaw writes a request to a stream and returns all that comes back, and in what it ends.
func readRaw(stream Stream, request string) (string, error) {
	_, _ = io.WriteString(stream, request)
	got, err := io.ReadAll(stream)
	return string(got), err
}

func TestAnErrnoIsSeenInHTTP1(t *testing.T) {
	silentEnd := mustListen(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1000))
	})
	reset := mustListen(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1000))
		_ = conn.(*net.TCPConn).SetLinger(0)
	})
	for name, c := range map[string]struct {
		open func(s *stage) func(context.Context) (Stream, error)
		want syscall.Errno
	}{
		"refused": {func(*stage) func(context.Context) (Stream, error) {
			return func(context.Context) (Stream, error) { return late{errno: syscall.ECONNREFUSED}, nil }
		}, syscall.ECONNREFUSED},
		"closed": {func(s *stage) func(context.Context) (Stream, error) { s.addr = silentEnd; return s.open }, syscall.ECONNRESET},
		"reset":  {func(s *stage) func(context.Context) (Stream, error) { s.addr = reset; return s.open }, syscall.ECONNRESET},
	} {
		for _, method := range []string{"GET", "POST"} {
			s := mustStage(t, "", HTTP1, HTTP2)
			stream, err := Adapt(t.Context(), c.open(s), HTTP1, HTTP2)
			if err != nil {
				t.Fatal(err)
			}
			s.streams = append(s.streams, stream)
			_ = stream.SetDeadline(time.Now().Add(patience))
			got, err := readRaw(stream, method+" / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
			if got != "" || !errors.Is(err, c.want) {
				t.Errorf("%s, %s: %q, %v", name, method, got, err)
			}
		}
	}
}

// A client must not take a broken answer for a whole one, even where only its end says how long it is.
func TestABrokenAnswerIsSeen(t *testing.T) {
	breaks := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for _, pair := range pairs {
		s := mustStage(t, mustServe(t, pair.to, breaks), pair.from, pair.to)
		res, err := s.client().Do(mustRequest(t, "GET", "http://local/", nil))
		if err != nil {
			t.Fatal(pair.name, err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != "half" || err == nil {
			t.Errorf("%s: %q, %v", pair.name, body, err)
		}
		_ = res.Body.Close()
	}
	s := mustStage(t, mustServe(t, HTTP2, breaks), HTTP1, HTTP2)
	got, err := readRaw(s.mustDial(), "GET / HTTP/1.0\r\n\r\n")
	if !strings.HasSuffix(got, "\r\n\r\nhalf") || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("HTTP/1.0: %q, %v", got, err)
	}
}

func TestWhatTheLocalProcessDoesNotSpeakIsSaid(t *testing.T) {
	for _, pair := range pairs {
		speaksFirst := func(words string) string {
			return mustListen(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, words)
				_, _ = io.Copy(io.Discard, conn)
			})
		}
		for name, speaks := range map[string]string{"HTTP/1": mustServe(t, HTTP1, report), "HTTP/2": speaksFirst("\x00\x00\x00\x04\x00\x00\x00\x00\x00"), "SMTP": speaksFirst("220 mail\r\n")} {
			if name == pair.to.String() {
				continue
			}
			s := mustStage(t, speaks, pair.from, pair.to)
			res, body := mustDo(t, s.client(), mustRequest(t, "GET", "http://local/", nil))
			if res.StatusCode != 502 || !strings.HasPrefix(body, "Magpie: the local process does not speak "+pair.to.String()) {
				t.Errorf("%s, but it speaks %s: %d %q", pair.name, name, res.StatusCode, body)
			}
		}
	}
}

func TestWhatCannotBeSaidIsRefused(t *testing.T) {
	asked := func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s %s was asked for", r.Method, r.URL) }
	s := mustStage(t, mustServe(t, HTTP1, asked), HTTP2, HTTP1)
	r := mustRequest(t, "POST", "http://local/a.B/C", strings.NewReader("\x00\x00\x00\x00\x00"))
	r.Header.Set("Content-Type", "application/grpc+proto")
	res, body := mustDo(t, s.client(), r)
	if h := res.Header; res.StatusCode != 200 || h.Get("Content-Type") != "application/grpc" || h.Get("Grpc-Status") != "12" || !strings.HasPrefix(h.Get("Grpc-Message"), "Magpie: ") || body != "" {
		t.Errorf("gRPC: %d %v %q", res.StatusCode, h, body)
	}

	s = mustStage(t, mustServe(t, HTTP2, asked), HTTP1, HTTP2)
	for request, want := range map[string]string{
		"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n": "Magpie: a WebSocket cannot",
		"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n": "Magpie: a CONNECT cannot",
	} {
		got, err := readRaw(s.mustDial(), request)
		if !strings.HasPrefix(got, "HTTP/1.1 502 Bad Gateway\r\n") || !strings.Contains(got, "\r\nConnection: close\r\n") || !strings.Contains(got, "\r\n\r\n"+want) || err != nil {
			t.Errorf("%.10q: %q, %v", request, got, err)
		}
	}
}

func TestGRPCWebGoesAlong(t *testing.T) {
	s := mustStage(t, mustServe(t, HTTP1, report), HTTP2, HTTP1)
	r := mustRequest(t, "POST", "http://local/", strings.NewReader("x"))
	r.Header.Set("Content-Type", "application/grpc-web+proto")
	if res, body := mustDo(t, s.client(), r); res.StatusCode != 200 || !strings.Contains(body, `"Body":"x"`) {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestAnUpgradeThatMayBeIgnoredIs(t *testing.T) {
	s := mustStage(t, mustServe(t, HTTP2, report), HTTP1, HTTP2)
	stream := s.mustDial()
	_, _ = io.WriteString(stream, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(stream), nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	if body, _ := io.ReadAll(res.Body); strings.Contains(strings.ToLower(string(body)), "upgrade") || strings.Contains(string(body), "Settings") {
		t.Errorf("%s", body)
	}
}

// A client that has said all may close its side and wait.
func TestAHalfClosedClientGetsItsAnswer(t *testing.T) {
	closed := make(chan struct{})
	s := mustStage(t, mustServe(t, HTTP2, func(w http.ResponseWriter, r *http.Request) {
		<-closed
		select {
		case <-r.Context().Done():
			t.Error("the request was given up")
		case <-time.After(50 * time.Millisecond): // what must not happen has no event
		}
		_, _ = io.WriteString(w, "answer")
	}), HTTP1, HTTP2)
	stream := s.mustDial()
	_, _ = io.WriteString(stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	_ = stream.CloseWrite()
	close(closed)
	got, err := io.ReadAll(stream)
	if !strings.HasPrefix(string(got), "HTTP/1.1 200 OK\r\n") || !strings.Contains(string(got), "answer") || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// Whoever gives up a request ends it at the local process, and nothing else.
func TestARequestThatIsGivenUpEnds(t *testing.T) {
	for _, pair := range pairs {
		for _, how := range []string{"cancel", "close", "reset"} {
			if pair.from == HTTP1 && how == "cancel" {
				continue // the same as close
			}
			t.Run(pair.name+", "+how, func(t *testing.T) {
				begun, over := make(chan struct{}), make(chan struct{})
				release := make(chan struct{})
				s := mustStage(t, mustServe(t, pair.to, func(w http.ResponseWriter, r *http.Request) {
					switch r.URL.Path {
					case "/stays":
						<-release
						_, _ = io.WriteString(w, "stayed")
					case "/goes":
						close(begun)
						_, _ = io.Copy(io.Discard, r.Body) // of an upload that never ends
						<-r.Context().Done()
						close(over)
					}
				}), pair.from, pair.to)
				client := s.client()
				var others sync.WaitGroup
				if how == "cancel" {
					others.Go(func() {
						if res, body := mustDo(t, client, mustRequest(t, "GET", "http://local/stays", nil)); res.StatusCode != 200 || body != "stayed" {
							t.Error("another request went with it")
						}
					})
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				upload, stop := io.Pipe()
				defer stop.Close()
				given := make(chan error)
				go func() {
					_, err := client.Do(mustRequest(t, "POST", "http://local/goes", upload).WithContext(ctx))
					given <- err
				}()
				<-begun
				switch last := s.streams[len(s.streams)-1]; how {
				case "cancel":
					cancel()
				case "close":
					_ = last.Close()
				case "reset":
					last.(*stream).Reset(syscall.ECONNRESET)
				}
				select {
				case <-over:
				case <-time.After(patience):
					t.Error("the local process was not told")
				}
				_ = stop.Close()
				if err := <-given; err == nil {
					t.Error("was answered")
				}
				close(release)
				others.Wait()
			})
		}
	}
}

// Uploads that the local process does not read leave the others alone.
func TestASlowRequestSlowsOnlyItself(t *testing.T) {
	const slow = 20
	release := make(chan struct{})
	s := mustStage(t, mustServe(t, HTTP1, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n)
	}), HTTP2, HTTP1)
	client := s.client()
	const size = 8 << 20 // more than sockets and windows take
	var waiting sync.WaitGroup
	for range slow {
		waiting.Go(func() {
			if _, body := mustDo(t, client, mustRequest(t, "POST", "http://local/slow", io.LimitReader(zeroes{}, size))); body != fmt.Sprint(size) {
				t.Errorf("slow: %q", body)
			}
		})
	}
	for range 3 {
		if _, body := mustDo(t, client, mustRequest(t, "POST", "http://local/fast", io.LimitReader(zeroes{}, size))); body != fmt.Sprint(size) {
			t.Errorf("fast: %q", body)
		}
	}
	close(release)
	waiting.Wait()
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestAnOpenThatHangsEndsWithTheStream(t *testing.T) {
	s := mustStage(t, mustListen(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1000)) }), HTTP2, HTTP1)
	hangs := make(chan struct{})
	var opened atomic.Int32
	stream, err := Adapt(t.Context(), func(ctx context.Context) (Stream, error) {
		if opened.Add(1) == 1 {
			return s.open(ctx)
		}
		close(hangs)
		<-ctx.Done()
		return nil, ctx.Err()
	}, HTTP2, HTTP1)
	if err != nil {
		t.Fatal(err)
	}
	client := mustClientConn(t, stream)
	given := make(chan error, 2)
	for range 2 {
		go func() {
			res, err := client.RoundTrip(mustRequest(t, "POST", "http://local/", io.MultiReader(strings.NewReader("x"))))
			if err == nil {
				_ = res.Body.Close()
			}
			given <- err
		}()
	}
	<-hangs
	_ = stream.Close()
	<-given // 502 or broken: the first may have been answered before
	<-given // TestMain sees that nothing is left
}

// Connections that the local process closes when it has answered, as it may, are no failures.
func TestALocalProcessMayCloseAfterEachAnswer(t *testing.T) {
	for _, pair := range pairs {
		s := mustStage(t, mustServe(t, pair.to, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			report(w, r)
		}), pair.from, pair.to)
		client := s.client()
		for i := range 20 {
			body := strings.Repeat("x", i*1000)
			if _, got := mustDo(t, client, mustRequest(t, "POST", "http://local/", strings.NewReader(body))); !strings.Contains(got, `"Body":"`+body+`"`) {
				t.Errorf("%s, %d: %.100q", pair.name, i, got)
			}
		}
		if len(s.streams) != 1 || len(s.opened) < 10 {
			t.Errorf("%s: %d connections for %d", pair.name, len(s.opened), len(s.streams))
		}
	}
}

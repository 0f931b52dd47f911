package route

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestWhoCannotAnswerLosesTheRequest(t *testing.T) {
	closing := func(after string) func(testing.TB) func(context.Context, Visit) (Stream, error) {
		return func(tb testing.TB) func(context.Context, Visit) (Stream, error) {
			return dialLocal(mustListen(tb, func(ctx context.Context, conn net.Conn) { expect(tb, conn, after) }))
		}
	}
	late := func(errno error, after int) func(testing.TB) func(context.Context, Visit) (Stream, error) {
		return func(testing.TB) func(context.Context, Visit) (Stream, error) {
			return endsLate(errno, after)
		}
	}
	never := func(testing.TB) func(context.Context, Visit) (Stream, error) {
		return func(context.Context, Visit) (Stream, error) {
			return nil, syscall.ECONNREFUSED
		}
	}
	long := strings.Repeat("x", 1<<20)
	fits := strings.Repeat("x", 30<<10)
	for name, c := range map[string]struct {
		open   func(testing.TB) func(context.Context, Visit) (Stream, error)
		method string
		body   string
		status int
	}{
		"open refused":                 {never, "GET", "", 200},
		"open refused, post":           {never, "POST", "x", 200},
		"open refused, big post":       {never, "POST", long, 200},
		"refused late, get":            {late(syscall.ECONNREFUSED, 1), "GET", "", 200},
		"refused late, post":           {late(syscall.ECONNREFUSED, 1), "POST", fits, 200},
		"refused late, big post":       {late(syscall.ECONNREFUSED, largeBuffer+1), "POST", long, 502},
		"broke, get":                   {late(syscall.ECONNRESET, 1), "GET", "", 200},
		"broke, head":                  {late(syscall.ECONNRESET, 1), "HEAD", "", 200},
		"broke, post":                  {late(syscall.ECONNRESET, 1), "POST", "x", 502},
		"broke, put":                   {late(syscall.ECONNRESET, 1), "PUT", "x", 502},
		"closed without answer":        {closing(request("GET", "/a", "me", "")), "GET", "", 200},
		"closed without answer, post":  {closing(request("POST", "/a", "me", "x")), "POST", "x", 502},
		"closed without answer, patch": {closing(request("PATCH", "/a", "me", "x")), "PATCH", "x", 502},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mustStage(t, mustHTTP(t, answering("original")), 0)
			s.port.Add(&Claim{Session: "anna@laptop", Filter: mustFilter(t, mine), Open: c.open(t)})
			conn := mustDial(t, s.addr)
			_, _ = io.WriteString(conn, request(c.method, "/a", "me", c.body))
			r := bufio.NewReader(conn)
			status, body := readBody(t, r, c.method)
			want := "original /a " + c.body
			if c.method == "HEAD" {
				want = ""
			}
			switch {
			case status != c.status:
				t.Fatalf("%d %.200q, want %d", status, body, c.status)
			case status == 502 && (!strings.Contains(body, "Magpie") || !strings.Contains(body, "anna@laptop")):
				t.Fatalf("%q names nobody", body)
			case status == 200 && body != want:
				t.Fatalf("%.200q, want %.200q", body, want)
			}
			if status == 502 {
				expectEnd(t, conn)
				return
			}
			_, _ = io.WriteString(conn, get) // and the connection lives
			if status, _ := readBody(t, r, "GET"); status != 200 {
				t.Fatalf("next request: %d", status)
			}
		})
	}
}

func TestIdleStreamThatClosesIsNotTheEndOfAnIdempotentRequest(t *testing.T) {
	for method, want := range map[string]int{"GET": 200, "PUT": 200, "POST": 502} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int64
			s := mustStage(t, mustHTTP(t, answering("original")), 0)
			s.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) {
				r := bufio.NewReader(conn)
				for range 3 - conns.Add(1) { // the first connection swallows its second request
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					if conns.Load() == 1 && req.URL.Path == "/2" {
						return
					}
					_, _ = io.WriteString(conn, local)
				}
			}))
			conn := mustDial(t, s.addr)
			r := bufio.NewReader(conn)
			_, _ = io.WriteString(conn, request("GET", "/1", "me", ""))
			readBody(t, r, "GET")
			_, _ = io.WriteString(conn, request(method, "/2", "me", "x"))
			status, body := readBody(t, r, method)
			if status != want || want == 200 && body != "local" {
				t.Fatalf("%d %q, want %d", status, body, want)
			}
		})
	}
}

func TestSessionThatEndsAfterAnInterimAnswerIs502(t *testing.T) {
	s := mustStage(t, mustHTTP(t, answering("original")), 0)
	early := "HTTP/1.1 103 Early Hints\r\n\r\n"
	s.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) {
		expect(t, conn, getMine)
		_, _ = io.WriteString(conn, early)
	}))
	conn := mustDial(t, s.addr)
	play(t, conn, step{getMine, early})
	if status, _ := readBody(t, bufio.NewReader(conn), "GET"); status != 502 {
		t.Fatalf("%d, want 502", status)
	}
}

func TestTruncatedAnswerIsNotMadeWhole(t *testing.T) {
	s := mustStage(t, mustHTTP(t, answering("original")), 0)
	part := "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"
	s.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) {
		expect(t, conn, getMine)
		_, _ = io.WriteString(conn, part)
	}))
	conn := mustDial(t, s.addr)
	play(t, conn, step{getMine, part})
	expectEnd(t, conn)
}

func TestSessionThatAnswersEarlyAndClosesIsHeard(t *testing.T) {
	head := "POST / HTTP/1.1\r\nContent-Length: 100000000\r\n" + mine + "\r\n\r\n"
	answer := "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	s := mustStage(t, mustListen(t, scripted(t)), 0)
	s.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) {
		if expect(t, conn, head) {
			_, _ = io.WriteString(conn, answer)
		}
	}))
	conn := mustDial(t, s.addr)
	_, _ = io.WriteString(conn, head)
	go func() { _, _ = io.Copy(conn, zeros(4<<20)) }() // and then it waits
	expect(t, conn, answer)
	expectEnd(t, conn)
}

// A client may live for days and its original close every few seconds: what is gone must not be kept.
func TestPartiesThatHaveGoneAreForgotten(t *testing.T) {
	once := func(say, answer string) func(context.Context, net.Conn) {
		return func(_ context.Context, conn net.Conn) {
			if say != "" && expect(t, conn, say) {
				_, _ = io.WriteString(conn, answer)
			}
		}
	}
	s := mustStage(t, mustListen(t, once("", "")), 0)
	c := newConn(s.proxy, mustDial(t, mustListen(t, once("", ""))), s.port)
	defer c.close()
	e := &claim{Claim: &Claim{Open: dialLocal(mustListen(t, once("", "")))}}
	for range 20 {
		p, err := c.stream(t.Context(), e, HTTP1)
		if err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		c.lockedDial(t.Context())
		for o := c.original; !o.gone || !p.gone; {
			c.change.Wait()
		}
		c.mu.Unlock()
	}
	if n := len(c.parties); n > 2 {
		t.Errorf("%d parties are kept", n)
	}
}

func TestHalfAHeadIsNoPartOfAnAnswer(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"closed": func(net.Conn) {},
		"reset":  func(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) },
	} {
		t.Run(name, func(t *testing.T) {
			s := mustStage(t, mustHTTP(t, answering("original")), 0)
			s.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) {
				if expect(t, conn, getMine) {
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConte")
				}
				end(conn)
			}))
			conn := mustDial(t, s.addr)
			_, _ = io.WriteString(conn, getMine)
			got, err := io.ReadAll(conn)
			if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 502 ") || strings.Contains(string(got), "Conte\r\n") {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
}

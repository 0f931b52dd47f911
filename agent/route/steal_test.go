package route

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/filters"
)

// mineOf returns steps whose requests match.
func mineOf(steps []step) []step {
	out := make([]step, len(steps))
	for i, s := range steps {
		s.say = strings.ReplaceAll(s.say, " HTTP/1.1\r\n", " HTTP/1.1\r\n"+mine+"\r\n")
		s.say = strings.ReplaceAll(s.say, " HTTP/1.0\r\n", " HTTP/1.0\r\n"+mine+"\r\n")
		out[i] = s
	}
	return out
}

// rawNames are the vectors that are not for sessions.
var rawNames = map[string]bool{"h2 preface": true, "tls": true, "text protocol": true, "bare LF": true, "answer not HTTP": true,
	"answer in doubt": true, "pipelined": true, "pipelined bodies": true}

func TestStolenBytesAreAsSent(t *testing.T) {
	for name, steps := range passed {
		if rawNames[name] {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := mineOf(steps)
			s := mustStage(t, mustListen(t, scripted(t)), 0)
			s.claim("me", mine, mustListen(t, scripted(t, steps...)))
			conn := mustDial(t, s.addr)
			play(t, conn, steps...)
			_ = conn.CloseWrite()
			expectEnd(t, conn)
		})
	}
}

func TestTornBytesAreStolenAlike(t *testing.T) {
	for name, steps := range passed {
		if rawNames[name] {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := mineOf(steps)
			s := mustStage(t, mustListen(t, scripted(t)), 0)
			s.claim("me", mine, mustListen(t, scripted(t, steps...)))
			conn := mustDial(t, s.addr)
			for _, s := range steps {
				for i := range len(s.say) {
					if _, err := io.WriteString(conn, s.say[i:i+1]); err != nil {
						t.Fatal(err)
					}
				}
				if !expect(t, conn, s.answer) {
					return
				}
			}
			_ = conn.CloseWrite()
			expectEnd(t, conn)
		})
	}
}

func TestEmptyLineBetweenStolenRequestsMayBeTorn(t *testing.T) {
	s := mustStage(t, mustListen(t, scripted(t)), 0)
	s.claim("me", mine, mustListen(t, scripted(t, step{getMine, local}, step{getMine, local})))
	conn := mustServe(t, s)
	play(t, conn, step{getMine, local})
	for _, piece := range []string{"\r", "\n", getMine} {
		if _, err := io.WriteString(conn, piece); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, conn, local)
}

// answering serves net/http with a body of its name and of what it was asked.
func answering(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", name, r.URL.Path, body)
	}
}

func readBody(tb testing.TB, r *bufio.Reader, method string) (int, string) {
	tb.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func request(method, path, user, body string) string {
	s := method + " " + path + " HTTP/1.1\r\nHost: shop\r\n"
	if user != "" {
		s += "X-User: " + user + "\r\n"
	}
	if body != "" {
		s += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return s + "\r\n" + body
}

func TestPipelinedRequestsOfManyOwnersAreAnsweredInOrder(t *testing.T) {
	slow := func(next http.HandlerFunc) http.HandlerFunc {
		var n atomic.Int64
		return func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Duration(n.Add(1)%3) * time.Millisecond)
			next(w, r)
		}
	}
	s := mustStage(t, mustHTTP(t, slow(answering("original"))), 0)
	s.claim("me", "X-User: me", mustHTTP(t, slow(answering("me"))))
	s.claim("you", "X-User: you", mustHTTP(t, slow(answering("you"))))
	conn := mustDial(t, s.addr)
	var say, want []string
	for i := range 300 {
		owner := []string{"", "me", "", "", "you", "me", "me"}[i%7]
		say = append(say, request("POST", fmt.Sprintf("/%d", i), owner, strings.Repeat("x", i*13%700)))
		if owner == "" {
			owner = "original"
		}
		want = append(want, fmt.Sprintf("%s /%d %s", owner, i, strings.Repeat("x", i*13%700)))
	}
	go func() { _, _ = io.WriteString(conn, strings.Join(say, "")) }()
	r := bufio.NewReader(conn)
	for _, want := range want {
		if status, got := readBody(t, r, "POST"); status != 200 || got != want {
			t.Fatalf("%d %q, want %q", status, got, want)
		}
	}
}

func TestOneStreamPerSessionIsReused(t *testing.T) {
	var opened atomic.Int64
	addr := mustHTTP(t, answering("me"))
	s := mustStage(t, mustHTTP(t, answering("original")), 0)
	s.port.Add(&Claim{Session: "me", Filter: mustFilter(t, mine), Open: func(ctx context.Context, v Visit) (Stream, error) {
		opened.Add(1)
		return dialLocal(addr)(ctx, v)
	}})
	conn := mustDial(t, s.addr)
	r := bufio.NewReader(conn)
	for i := range 10 {
		_, _ = io.WriteString(conn, request("GET", "/", []string{"me", ""}[i%2], ""))
		readBody(t, r, "GET")
	}
	if n := opened.Load(); n != 1 {
		t.Fatalf("%d streams, want 1", n)
	}
}

func TestStreamClosedBetweenRequestsIsOpenedAgain(t *testing.T) {
	s := mustStage(t, mustHTTP(t, answering("original")), 0)
	s.claim("me", mine, mustListen(t, func(ctx context.Context, conn net.Conn) {
		expect(t, conn, getMine)
		_, _ = io.WriteString(conn, local)
	}))
	conn := mustDial(t, s.addr)
	for range 20 { // sometimes before, sometimes after the end was seen
		play(t, conn, step{getMine, local})
	}
}

func TestAnswersThatCloseAreHonoured(t *testing.T) {
	for name, s := range map[string]step{
		"answer closes":      {getMine, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"},
		"client closes":      {"GET / HTTP/1.1\r\nConnection: close\r\n" + mine + "\r\n\r\n", local},
		"old client":         {"GET / HTTP/1.0\r\n" + mine + "\r\n\r\n", local},
		"old answer":         {getMine, "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"},
		"until the end":      {getMine, "HTTP/1.1 200 OK\r\n\r\nx"},
		"cannot be followed": {getMine, "HTTP/1.1 200 OK\nx: y\n\nx"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stage := mustStage(t, mustHTTP(t, answering("original")), 0)
			stage.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) {
				expect(t, conn, s.say)
				_, _ = io.WriteString(conn, s.answer)
				if name == "until the end" || name == "cannot be followed" {
					return
				}
				_, _ = io.Copy(io.Discard, conn) // leaves the closing to us
			}))
			conn := mustDial(t, stage.addr)
			play(t, conn, s)
			expectEnd(t, conn)
		})
	}
}

func TestWhatFollowsAnUpgradeWaitsForTheAnswer(t *testing.T) {
	const switched = "HTTP/1.1 101 Switching\r\n\r\n"
	for name, c := range map[string]struct{ head, answer, next string }{
		"passed, refused":    {"Upgrade: a\r\n", original, get},
		"passed, switched":   {"Upgrade: a\r\n", switched, getMine}, // looks like a request, and is none
		"stolen, refused":    {"Upgrade: a\r\n" + mine + "\r\n", original, getMine},
		"stolen, switched":   {"Upgrade: a\r\n" + mine + "\r\n", switched, get},
		"lost, refused":      {"Upgrade: a\r\n" + mine + "\r\n", original, get},
		"lost, switched":     {"Upgrade: a\r\n" + mine + "\r\n", switched, get},
		"connect, refused":   {"CONNECT", original, get},
		"connect, connected": {"CONNECT", "HTTP/1.1 200 OK\r\n\r\n", getMine},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upgrade := "GET /ws HTTP/1.1\r\nConnection: upgrade\r\n" + c.head + "\r\n"
			if c.head == "CONNECT" {
				upgrade = "CONNECT a:1 HTTP/1.1\r\n\r\n"
			}
			answers := mustListen(t, func(_ context.Context, conn net.Conn) {
				if !expect(t, conn, upgrade) {
					return
				}
				_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
					t.Error("bytes came before the answer")
				}
				_, _ = io.WriteString(conn, c.answer)
				if expect(t, conn, c.next) {
					_, _ = io.WriteString(conn, local)
				}
				_, _ = io.Copy(io.Discard, conn)
			})
			none := mustListen(t, scripted(t))
			s := mustStage(t, answers, 0)
			if strings.HasPrefix(name, "lost") {
				s.claim("me", mine, "127.0.0.1:1")
			} else {
				s.claim("me", mine, none)
			}
			if strings.HasPrefix(name, "stolen") {
				s = mustStage(t, none, 0)
				s.claim("me", mine, answers)
			}
			play(t, mustDial(t, s.addr), step{upgrade + c.next, c.answer + local})
		})
	}
}

func TestProbesOfTheKubeletPass(t *testing.T) {
	s := mustStage(t, mustHTTP(t, answering("original")), 0)
	s.claim("me", mine, mustHTTP(t, answering("me")))
	conn := mustDial(t, s.addr)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.33\r\n"+mine+"\r\n\r\n")
	if _, got := readBody(t, bufio.NewReader(conn), "GET"); got != "original / " {
		t.Fatalf("got %q", got)
	}
}

func TestRemovedClaimFinishesAndGetsNoMore(t *testing.T) {
	asked, let := make(chan struct{}), make(chan struct{})
	s := mustStage(t, mustHTTP(t, answering("original")), 0)
	remove := s.claim("me", mine, mustHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-let
		_, _ = io.WriteString(w, "me")
	}))
	conn := mustDial(t, s.addr)
	r := bufio.NewReader(conn)
	_, _ = io.WriteString(conn, getMine+getMine)
	<-asked
	remove()
	remove()
	close(let)
	if _, got := readBody(t, r, "GET"); got != "me" {
		t.Fatalf("got %q", got)
	}
	if _, got := readBody(t, r, "GET"); got != "original / " {
		t.Fatalf("got %q", got)
	}
}

func TestOlderClaimIsAskedFirst(t *testing.T) {
	s := mustStage(t, mustHTTP(t, answering("original")), 0)
	s.claim("whole", "", mustHTTP(t, answering("whole")))
	older := s.claim("older", mine, mustHTTP(t, answering("older")))
	s.claim("newer", mine, mustHTTP(t, answering("newer")))
	conn := mustDial(t, s.addr)
	r := bufio.NewReader(conn)
	for _, c := range []struct{ say, want string }{{getMine, "older / "}, {get, "whole / "}, {getMine, "older / "}} {
		_, _ = io.WriteString(conn, c.say)
		if _, got := readBody(t, r, "GET"); got != c.want {
			t.Fatalf("got %q, want %q", got, c.want)
		}
	}
	older()
	_, _ = io.WriteString(conn, getMine)
	if _, got := readBody(t, r, "GET"); got != "newer / " {
		t.Fatalf("got %q", got)
	}
}

func TestEarlyAnswerWhileTheBodyIsStillComing(t *testing.T) {
	for _, user := range []string{"", "me"} {
		head := "POST / HTTP/1.1\r\nContent-Length: 1000000\r\nX-User: " + user + "\r\n\r\n"
		serve := func(_ context.Context, conn net.Conn) {
			if !expect(t, conn, head) {
				return
			}
			_, _ = io.WriteString(conn, local)
			got, _ := io.ReadAll(io.LimitReader(conn, 1000000))
			if len(got) != 1000000 {
				t.Errorf("got %d bytes", len(got))
			}
			if expect(t, conn, "GET / HTTP/1.1\r\nX-User: "+user+"\r\n\r\n") {
				_, _ = io.WriteString(conn, local)
			}
		}
		addr := mustListen(t, serve)
		s := mustStage(t, addr, 0)
		if user != "" {
			s = mustStage(t, mustListen(t, scripted(t)), 0)
			s.claim("me", mine, addr)
		}
		conn := mustDial(t, s.addr)
		play(t, conn, step{head, local})
		_, _ = conn.Write(bytes.Repeat([]byte{'x'}, 1000000))
		play(t, conn, step{"GET / HTTP/1.1\r\nX-User: " + user + "\r\n\r\n", local})
	}
}

func TestWhoAnswersSeesTheClientGo(t *testing.T) {
	for name, say := range map[string]string{
		"passed": get, "stolen": getMine,
		"passed upgrade": "GET / HTTP/1.1\r\nUpgrade: odd\r\n\r\n", "stolen upgrade": "GET / HTTP/1.1\r\nUpgrade: odd\r\n" + mine + "\r\n\r\n",
		"stolen body": "POST / HTTP/1.1\r\nContent-Length: 9\r\n" + mine + "\r\n\r\nhalf",
		"passed body": "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked, gone := make(chan struct{}, 2), make(chan struct{}, 2)
			addr := mustListen(t, func(_ context.Context, conn net.Conn) {
				if _, err := io.ReadFull(conn, make([]byte, len(say))); err != nil {
					return
				}
				asked <- struct{}{}
				_, _ = conn.Read(make([]byte, 1))
				gone <- struct{}{}
			})
			s := mustStage(t, addr, 0)
			s.claim("me", mine, addr)
			conn := mustDial(t, s.addr)
			_, _ = io.WriteString(conn, say)
			<-asked
			_ = conn.Close()
			select {
			case <-gone:
			case <-time.After(patience):
				t.Fatal("never saw it")
			}
		})
	}
}

// A request may be as long as the buffer to the byte. Nothing more can be read then, which is not the end.
func TestRequestAsLongAsTheBufferEndsNothing(t *testing.T) {
	head := "GET / HTTP/1.1\r\nHost: shop\r\nX-User: me\r\nX-Long: "
	head += strings.Repeat("x", largeBuffer-len(head)-4) + "\r\n\r\n"
	post := request("POST", "/", "me", strings.Repeat("x", 60_000))
	post = request("POST", "/", "me", strings.Repeat("x", 60_000+largeBuffer-len(post)))
	for name, long := range map[string]string{"head": head, "body": post} {
		t.Run(name, func(t *testing.T) {
			if len(long) != largeBuffer {
				t.Fatal(len(long))
			}
			s := mustStage(t, mustHTTP(t, answering("original")), 0)
			s.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) {
				for _, say := range []string{long, getMine} {
					if !expect(t, conn, say) {
						return
					}
					_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("before the answer: %v", err)
					}
					_, _ = io.WriteString(conn, local)
				}
			}))
			play(t, mustDial(t, s.addr), step{long, local}, step{getMine, local})
		})
	}
}

func TestVisitSaysWhatWillBeSpoken(t *testing.T) {
	visits := make(chan Visit, 1)
	claim := func(addr string, f *filters.Filter) *Claim {
		return &Claim{Session: "me", Filter: f, Open: func(ctx context.Context, v Visit) (Stream, error) {
			visits <- v
			return dialLocal(addr)(ctx, v)
		}}
	}
	for name, c := range map[string]struct {
		filter *filters.Filter
		beside bool // another session asks for something
		want   Protocol
	}{
		"request":                      {mustFilter(t, mine), false, HTTP1},
		"whole connection":             {nil, false, Raw},
		"whole connection, beside one": {nil, true, Raw},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustStage(t, mustListen(t, scripted(t)), 0)
			if c.beside {
				s.claim("you", "X-User: you", mustListen(t, nobody(t)))
			}
			s.port.Add(claim(mustListen(t, scripted(t, step{getMine, local})), c.filter))
			conn := mustDial(t, s.addr)
			play(t, conn, step{getMine, local})
			v := <-visits
			if v.Protocol != c.want || v.Client.String() != conn.LocalAddr().String() || v.Local.String() != s.addr {
				t.Errorf("%+v", v)
			}
		})
	}
}

package route

import (
	"io"
	"testing"
	"time"
)

const closed = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\noriginal"

func TestPassedConnectionsAreLetGoBetweenTwoRequests(t *testing.T) {
	for name, c := range map[string]struct{ steps, want []step }{
		"idle at the time": {[]step{{get, original}}, []step{{get, closed}}},
		"keep-alive replaced": {
			[]step{{get, "HTTP/1.1 200 OK\r\nconnection: Keep-Alive, Foo\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n"}},
			[]step{{get, "HTTP/1.1 200 OK\r\nconnection: close, Foo\r\nContent-Length: 0\r\n\r\n"}},
		},
		"after an interim answer": {
			[]step{{get, "HTTP/1.1 103 Early\r\n\r\n" + original}},
			[]step{{get, "HTTP/1.1 103 Early\r\n\r\n" + closed}},
		},
		"the last of many": {[]step{{get + get, original + original}}, []step{{get + get, original + closed}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := step{get, original}
			s := mustStage(t, mustListen(t, scripted(t, append([]step{before}, c.steps...)...)), -1)
			remove := s.claim("me", mine, mustListen(t, scripted(t)))
			conn := mustDial(t, s.addr)
			play(t, conn, before)
			remove()
			play(t, conn, c.want...)
			expectEnd(t, conn)
		})
	}
}

func TestPassedConnectionsLiveOnWhileTheyLinger(t *testing.T) {
	steps := []step{{get, original}, {get, original}}
	s := mustStage(t, mustListen(t, scripted(t, steps...)), time.Hour)
	remove := s.claim("me", mine, mustListen(t, scripted(t)))
	conn := mustDial(t, s.addr)
	remove()
	play(t, conn, steps...)
	_ = conn.CloseWrite()
	expectEnd(t, conn)
}

func TestNewClaimKeepsConnections(t *testing.T) {
	steps := []step{{get, original}, {get, original}}
	s := mustStage(t, mustListen(t, scripted(t, steps...)), -1)
	remove := s.claim("me", mine, mustListen(t, scripted(t)))
	conn := mustDial(t, s.addr)
	play(t, conn, steps[0])
	remove()
	s.claim("you", "X-User: you", mustListen(t, scripted(t)))
	play(t, conn, steps[1])
	_ = conn.CloseWrite()
	expectEnd(t, conn)
}

func TestRawConnectionsLiveTillTheyEnd(t *testing.T) {
	steps := []step{{"\x00", "\x01"}, {"\x02", "\x03"}}
	s := mustStage(t, mustListen(t, scripted(t, steps...)), -1)
	remove := s.claim("me", mine, mustListen(t, scripted(t)))
	conn := mustDial(t, s.addr)
	play(t, conn, steps[0])
	remove()
	play(t, conn, steps[1])
	_ = conn.CloseWrite()
	expectEnd(t, conn)
}

func TestLastAnswerWaitsForTheRequestsBody(t *testing.T) {
	head, body := "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", "abc"
	steps := []step{{get, original}, {head, original}, {body + get, original}}
	s := mustStage(t, mustListen(t, scripted(t, steps...)), -1)
	remove := s.claim("me", mine, mustListen(t, scripted(t)))
	conn := mustDial(t, s.addr)
	play(t, conn, steps[0])
	remove()
	play(t, conn, steps[1], step{body + get, closed})
	expectEnd(t, conn)
}

func TestClosingChangesOneField(t *testing.T) {
	for in, want := range map[string]string{
		"HTTP/1.1 200 OK\r\n\r\n": "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA:b\r\nCONNECTION:keep-alive\r\nc: d\r\n\r\n":              "HTTP/1.1 200 OK\r\nA:b\r\nCONNECTION: close\r\nc: d\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: a\r\nConnection: keep-alive, b\r\n\r\n":        "HTTP/1.1 200 OK\r\nConnection: close, a\r\nConnection: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: Keep-Alive\r\n\r\n":       "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nX-Connection: keep-alive\r\n\r\n": "HTTP/1.1 200 OK\r\nX-Connection: keep-alive\r\nConnection: close\r\n\r\n",
	} {
		if got := string(closing([]byte(in))); got != want {
			t.Errorf("%q\nbecame %q\nwant   %q", in, got, want)
		}
	}
}

func TestObserversSeeEveryExchange(t *testing.T) {
	seen := make(chan Exchange, 8)
	s := mustStage(t, mustHTTP(t, answering("original")), 0)
	s.port.Add(&Claim{Session: "me", Filter: mustFilter(t, mine), Open: dialLocal(mustHTTP(t, answering("me"))),
		Observe: func(e Exchange) { seen <- e }})
	s.port.Add(&Claim{Session: "lost", Filter: mustFilter(t, "X-User: lost"), Open: dialLocal("127.0.0.1:1")})
	s.port.Add(&Claim{Session: "bad", Filter: mustFilter(t, "X-User: bad"), Open: endsLate(io.ErrUnexpectedEOF, 1)})
	conn := mustDial(t, s.addr)
	_, _ = io.WriteString(conn, request("GET", "/1?q", "", "")+request("POST", "/2", "me", "x")+request("POST", "/3", "lost", "x")+
		request("POST", "/4", "bad", "x"))
	want := map[string]Exchange{ // an answer may be told of just before the one ahead of it
		"/1?q": {Method: "GET", Path: "/1?q", Status: 200},
		"/2":   {Session: "me", Method: "POST", Path: "/2", Status: 200},
		"/3":   {Lost: "lost", Method: "POST", Path: "/3", Status: 200},
		"/4":   {Session: "bad", Method: "POST", Path: "/4", Status: 502},
	}
	for range len(want) {
		select {
		case got := <-seen:
			if got.Duration <= 0 || got.Client.String() != conn.LocalAddr().String() {
				t.Errorf("%+v: no duration or client", got)
			}
			want := want[got.Path]
			got.Duration, got.Client = 0, want.Client
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		case <-time.After(patience):
			t.Fatal("no exchange")
		}
	}
}

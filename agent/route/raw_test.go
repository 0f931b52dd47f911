package route

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestServerThatSpeaksFirstIsHeardAtOnce(t *testing.T) {
	const greeting, helo, ok = "220 mail.shop ESMTP\r\n", "EHLO me\r\n", "250 OK\r\n"
	server := func(_ context.Context, conn net.Conn) {
		_, _ = io.WriteString(conn, greeting)
		if expect(t, conn, helo+getMine) {
			_, _ = io.WriteString(conn, ok)
		}
	}
	s := mustStageClaimed(t, mustListen(t, server))
	conn := mustDial(t, s.addr)
	expect(t, conn, greeting)
	play(t, conn, step{helo + getMine, ok})
	expectEnd(t, conn)
}

func TestServerThatSpeaksBeforeAHeadIsCompleteHasTheConnection(t *testing.T) {
	speak := make(chan struct{})
	s := mustStageClaimed(t, mustListen(t, func(_ context.Context, conn net.Conn) {
		<-speak
		_, _ = io.WriteString(conn, "hello")
		if expect(t, conn, getMine[:30]) { // without a further byte of the client
			_, _ = io.WriteString(conn, "go on")
		}
		if expect(t, conn, getMine[30:]) {
			_, _ = io.WriteString(conn, "bye")
		}
	}))
	conn := mustServe(t, s)
	_, _ = io.WriteString(conn, getMine[:30]) // returns when they were read
	close(speak)
	expect(t, conn, "hellogo on")
	play(t, conn, step{getMine[30:], "bye"})
}

func TestUnaskedLastWordsArePassed(t *testing.T) {
	const timeout = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"
	s := mustStageClaimed(t, mustListen(t, func(_ context.Context, conn net.Conn) {
		expect(t, conn, get)
		_, _ = io.WriteString(conn, original+timeout)
	}))
	conn := mustDial(t, s.addr)
	play(t, conn, step{get, original + timeout})
	expectEnd(t, conn)
}

func TestOriginalThatClosesWhileASessionAnswersIsDialledAgain(t *testing.T) {
	for name, last := range map[string]string{"silent": "", "with words": "HTTP/1.1 408 Request Timeout\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			var dialled atomic.Int64
			let, closed := make(chan struct{}), make(chan struct{})
			s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) {
				dialled.Add(1)
				if expect(t, conn, get) {
					_, _ = io.WriteString(conn, original)
				}
				if dialled.Load() == 1 {
					<-let
					_, _ = io.WriteString(conn, last)
					_ = conn.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, conn) // until we are seen to have gone
					close(closed)
				}
			}), 0)
			s.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) {
				if expect(t, conn, getMine) {
					close(let)
					<-closed
					_, _ = io.WriteString(conn, local)
				}
				if expect(t, conn, getMine) {
					_, _ = io.WriteString(conn, local)
				}
				_, _ = io.Copy(io.Discard, conn)
			}))
			conn := mustDial(t, s.addr)
			play(t, conn, step{get, original}, step{getMine, local}, step{getMine, local}, step{get, original})
			if n := dialled.Load(); n != 2 {
				t.Fatalf("dialled %d times, want 2", n)
			}
		})
	}
}

func TestOriginalThatRefusesIsMissedOnlyByItsOwnRequests(t *testing.T) {
	s := mustStage(t, "", 0)
	s.claim("me", mine, mustHTTP(t, answering("me")))
	conn := mustDial(t, s.addr)
	_, _ = io.WriteString(conn, getMine)
	if _, got := readBody(t, bufio.NewReader(conn), "GET"); got != "me / " {
		t.Fatalf("got %q", got)
	}
	_, _ = io.WriteString(conn, get)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %v, want a reset", err)
	}
}

func TestResetOfTheOriginalIsSeenAsOne(t *testing.T) {
	for name, say := range map[string]string{"passed": get, "raw": "\x00"} {
		t.Run(name, func(t *testing.T) {
			s := mustStageClaimed(t, mustListen(t, func(_ context.Context, conn net.Conn) {
				expect(t, conn, say)
				_ = conn.(*net.TCPConn).SetLinger(0)
			}))
			conn := mustDial(t, s.addr)
			_, _ = io.WriteString(conn, say)
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("got %v, want a reset", err)
			}
		})
	}
}

func TestResetOfTheClientIsSeenAsOne(t *testing.T) {
	for name, say := range map[string]string{"passed": get, "raw": "\x00"} {
		t.Run(name, func(t *testing.T) {
			asked, saw := make(chan struct{}), make(chan error, 1)
			s := mustStageClaimed(t, mustListen(t, func(_ context.Context, conn net.Conn) {
				expect(t, conn, say)
				close(asked)
				_, err := conn.Read(make([]byte, 1))
				saw <- err
			}))
			conn := mustDial(t, s.addr)
			_, _ = io.WriteString(conn, say)
			<-asked
			_ = conn.SetLinger(0)
			_ = conn.Close()
			if err := <-saw; !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("got %v, want a reset", err)
			}
		})
	}
}

func TestHalfCloseIsKeptBothWays(t *testing.T) {
	for name, c := range map[string]struct{ first, later string }{
		"nothing said":    {"", ""},
		"incomplete head": {"GET / HTT", ""},
		"incomplete body": {"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", ""},
		"request":         {get, ""},
		"raw":             {"\x00", ""},
		"server first":    {"\x00", "and on"},
		"request, server": {get, get},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := make(chan struct{}, 2)
			addr := mustListen(t, func(_ context.Context, conn net.Conn) {
				defer func() { heard <- struct{}{} }()
				if !expect(t, conn, c.first) {
					return
				}
				if c.later != "" { // the server's end comes first, and it hears on
					_ = conn.(*net.TCPConn).CloseWrite()
				}
				rest, err := io.ReadAll(conn)
				if err != nil || string(rest) != c.later {
					t.Errorf("got %q, %v, want %q", rest, err, c.later)
				}
				_, _ = io.WriteString(conn, original)
			})
			for _, addr := range []string{addr, mustStageClaimed(t, addr).addr} {
				conn := mustDial(t, addr)
				_, _ = io.WriteString(conn, c.first)
				want := original
				if c.later != "" {
					expectEnd(t, conn)
					_, _ = io.WriteString(conn, c.later)
					want = ""
				}
				_ = conn.CloseWrite()
				if want != "" && !expect(t, conn, want) {
					return
				}
				expectEnd(t, conn)
				<-heard
			}
		})
	}
}

func TestIncompleteSecondHeadIsPassedAtTheEnd(t *testing.T) {
	const half = "GET / HTT"
	s := mustStageClaimed(t, mustListen(t, scripted(t, step{get, original}, step{half, "HTTP/1.1 400 Bad Request\r\n\r\n"})))
	conn := mustDial(t, s.addr)
	play(t, conn, step{get, original})
	_, _ = io.WriteString(conn, half)
	_ = conn.CloseWrite()
	expect(t, conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
	expectEnd(t, conn)
}

func TestUnfilteredClaimHasWholeConnections(t *testing.T) {
	greeting := "220 local\r\n"
	s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) { t.Error("the original was dialled") }), 0)
	heard := make(chan struct{})
	s.claim("me", "", mustListen(t, func(_ context.Context, conn net.Conn) {
		defer close(heard)
		_, _ = io.WriteString(conn, greeting)
		if expect(t, conn, "GET \x00 and so on") {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		expect(t, conn, "later")
		if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil {
			t.Errorf("got %q, %v", rest, err)
		}
	}))
	conn := mustDial(t, s.addr)
	expect(t, conn, greeting)
	_, _ = io.WriteString(conn, "GET \x00 and so on")
	expectEnd(t, conn)
	_, _ = io.WriteString(conn, "later")
	_ = conn.CloseWrite()
	<-heard
}

func TestRefusedConnectionGoesToTheOriginalWhole(t *testing.T) {
	for name, open := range map[string]func(context.Context, Visit) (Stream, error){
		"at once": func(context.Context, Visit) (Stream, error) {
			return nil, syscall.ECONNREFUSED
		},
		"late": endsLate(syscall.ECONNREFUSED, 3),
	} {
		for _, filtered := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				steps := []step{{"\x00\x01\x02", "\x03"}, {"\x04", "\x05"}}
				s := mustStage(t, mustListen(t, scripted(t, steps...)), 0)
				s.port.Add(&Claim{Session: "me", Open: open})
				if filtered {
					s.claim("you", mine, mustListen(t, scripted(t)))
				}
				conn := mustDial(t, s.addr)
				play(t, conn, steps...)
				_ = conn.CloseWrite()
				expectEnd(t, conn)
			})
		}
	}
}

func TestConnectionThatBreaksUnansweredIsReset(t *testing.T) {
	s := mustStage(t, mustListen(t, scripted(t)), 0)
	s.port.Add(&Claim{Session: "me", Open: endsLate(syscall.ECONNRESET, 1)})
	conn := mustDial(t, s.addr)
	_, _ = io.WriteString(conn, "\x00")
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %v, want a reset", err)
	}
}

func TestFilteredAndUnfilteredClaimsShareAPort(t *testing.T) {
	s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) { t.Error("the original was dialled") }), 0)
	s.claim("whole", "", mustListen(t, func(_ context.Context, conn net.Conn) {
		buf := make([]byte, 1<<10)
		n, err := conn.Read(buf)
		for ; err == nil; n, err = conn.Read(buf) {
			if bytes.HasPrefix(buf[:n], []byte("GET")) {
				_, _ = io.WriteString(conn, original)
			} else {
				_, _ = conn.Write(buf[:n])
			}
		}
	}))
	s.claim("me", mine, mustHTTP(t, answering("me")))
	conn := mustDial(t, s.addr)
	play(t, conn, step{get, original})
	_, _ = io.WriteString(conn, getMine)
	if _, got := readBody(t, bufio.NewReader(conn), "GET"); got != "me / " {
		t.Fatalf("got %q", got)
	}
	play(t, conn, step{get, original}, step{"\x00raw", "\x00raw"}, step{"more", "more"})
}

func TestUnfilteredServerThatSpeaksFirstIsHeard(t *testing.T) {
	s := mustStage(t, "", 0)
	s.claim("whole", "", mustListen(t, func(_ context.Context, conn net.Conn) { _, _ = io.WriteString(conn, "220\r\n") }))
	s.claim("me", mine, mustHTTP(t, answering("me")))
	conn := mustDial(t, s.addr)
	expect(t, conn, "220\r\n")
	expectEnd(t, conn)
}

func TestWebSocketEchoBothWays(t *testing.T) {
	echo := func(_ context.Context, conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x89\x00")
		_, _ = io.Copy(conn, r)
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	addr := mustListen(t, echo)
	s := mustStage(t, addr, 0)
	s.claim("me", mine, addr)
	for _, extra := range []string{"", mine + "\r\n"} {
		conn := mustDial(t, s.addr)
		play(t, conn, step{"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + extra + "\r\n",
			"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x89\x00"})
		frame := bytes.Repeat([]byte("\x82\x7eframe"), 100000)
		go func() {
			_, _ = conn.Write(frame)
			_ = conn.CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, frame) {
			t.Fatalf("got %d bytes, %v, want %d", len(got), err, len(frame))
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	for name, say := range map[string]string{"idle": "", "asked": get, "raw": "\x00", "stolen": getMine, "half": "GET"} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan struct{}, 4)
			addr := mustListen(t, func(_ context.Context, conn net.Conn) {
				_, _ = conn.Read(make([]byte, 1))
				heard <- struct{}{}
				_, _ = io.Copy(io.Discard, conn)
			})
			s := mustStage(t, addr, 0)
			s.claim("me", mine, addr)
			near, far := net.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				s.proxy.Serve(ctx, far, s.port)
				close(done)
			}()
			_, _ = io.WriteString(near, say)
			if name != "idle" && name != "half" {
				<-heard
			}
			if s.proxy.Connections() != 1 {
				t.Error("not counted")
			}
			cancel()
			select {
			case <-done:
			case <-time.After(patience):
				t.Fatal("still serving")
			}
			if s.proxy.Connections() != 0 {
				t.Error("still counted")
			}
		})
	}
}

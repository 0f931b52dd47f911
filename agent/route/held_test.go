package route

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

func TestConnectionsAreHeldByRawBytesAndByLongAnswersAlone(t *testing.T) {
	const events = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
	for name, c := range map[string]struct {
		steps []step
		held  int
	}{
		"silent":           {nil, 0},
		"between requests": {[]step{{get, original}}, 0},
		"raw":              {[]step{{"\x00", "\x01"}}, 1},
		"upgraded":         {[]step{{"GET / HTTP/1.1\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n", "HTTP/1.1 101 Switching\r\nUpgrade: echo\r\n\r\n"}}, 1},
		"stream of events": {[]step{{get, events}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustStage(t, mustListen(t, scripted(t, c.steps...)), -1)
			conn := mustDial(t, s.addr)
			play(t, conn, c.steps...)
			// The books are kept right after the client has its answer.
			begin := time.Now()
			if held := s.proxy.Held(t.Context(), 50*time.Millisecond); held != c.held {
				t.Errorf("%d are held, want %d", held, c.held)
			}
			if name == "raw" && time.Since(begin) > 40*time.Millisecond {
				t.Error("waited for nothing")
			}
		})
	}
}

func TestWhoAsksAgainAndAgainHoldsNothing(t *testing.T) {
	answered := make(chan struct{})
	s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) {
		defer close(answered)
		for {
			if _, err := io.ReadFull(conn, make([]byte, len(get))); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond) // nearly always under way
			if _, err := io.WriteString(conn, original); err != nil {
				return
			}
		}
	}), -1)
	conn := mustDial(t, s.addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer conn.Close()
		for range 20 {
			if _, err := io.WriteString(conn, get); err != nil || !expect(t, conn, original) {
				return
			}
		}
	}()
	time.Sleep(30 * time.Millisecond)
	if held := s.proxy.Held(t.Context(), patience); held != 0 {
		t.Errorf("%d are held", held)
	}
	<-done
	<-answered
}

package route

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/filters"
)

// What one side of a conversation heard, and how that ended: "end", "reset", or the error.
type heard struct{ bytes, end string }

func ending(err error) string {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return "end"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	}
	return err.Error()
}

// A recorder answers one connection by the turns from one up to another, and keeps what it heard.
type recorder struct {
	turns []turn
	ends  end
	once  sync.Once
	all   chan struct{} // closed when all turns are over
	heard chan heard
}

// deaf returns turns as who hears no empty lines has them.
func deaf(turns []turn) []turn {
	turns = slices.Clone(turns)
	for i := range turns {
		turns[i].empty = ""
	}
	return turns
}

// mustRecord returns a recorder and its address. Later connections are closed at once.
func mustRecord(tb testing.TB, turns []turn, ends end) (*recorder, string) {
	tb.Helper()
	r := &recorder{turns: turns, ends: ends, all: make(chan struct{}), heard: make(chan heard, 1)}
	return r, mustListen(tb, func(_ context.Context, conn net.Conn) {
		r.once.Do(func() { r.heard <- r.serve(conn.(*net.TCPConn)) })
	})
}

func (r *recorder) serve(conn *net.TCPConn) heard {
	_ = conn.SetDeadline(time.Now().Add(patience))
	var all strings.Builder
	for _, t := range r.turns {
		if _, err := io.CopyN(&all, conn, int64(len(t.empty+t.say))); err != nil {
			return heard{all.String(), ending(err)}
		}
		if _, err := io.WriteString(conn, t.answer); err != nil {
			return heard{all.String(), ending(err)}
		}
	}
	close(r.all)
	switch r.ends {
	case originalEnds:
		_ = conn.CloseWrite()
	case originalResets:
		_ = conn.SetLinger(0)
		_ = conn.Close()
		return heard{all.String(), "end"}
	}
	_, err := io.Copy(&all, conn)
	return heard{all.String(), ending(err)}
}

// converse is the client of o on the connection to addr, which it tears into single bytes if told so.
// It resets only after the recorder r has heard it all: a reset overtakes bytes.
func converse(tb testing.TB, o *oddity, r *recorder, addr string, torn bool) heard {
	tb.Helper()
	conn := mustDial(tb, addr)
	defer conn.Close()
	say := func(s string) {
		piece := len(s)
		if torn {
			piece = 1
		}
		for ; s != ""; s = s[min(piece, len(s)):] {
			if _, err := io.WriteString(conn, s[:min(piece, len(s))]); err != nil {
				return // the answer tells
			}
		}
	}
	var all strings.Builder
	if o.atOnce {
		say(o.says())
	}
	for _, t := range o.turns {
		if !o.atOnce {
			say(t.empty + t.say)
		}
		if t.clientEnds {
			_ = conn.CloseWrite()
		}
		if _, err := io.CopyN(&all, conn, int64(len(t.answer))); err != nil {
			return heard{all.String(), ending(err)}
		}
	}
	switch o.ends {
	case clientEnds:
		_ = conn.CloseWrite()
	case clientResets:
		select {
		case <-r.all:
		case <-time.After(patience):
		}
		_ = conn.SetLinger(0)
		return heard{all.String(), "end"}
	}
	_, err := io.Copy(&all, conn)
	return heard{all.String(), ending(err)}
}

// had waits for what a recorder heard.
func (r *recorder) had(tb testing.TB) heard {
	tb.Helper()
	select {
	case h := <-r.heard:
		return h
	case <-time.After(patience):
		tb.Fatal("the other side heard nothing")
		return heard{}
	}
}

func compare(tb testing.TB, who string, got, want heard) {
	tb.Helper()
	if got.bytes != want.bytes {
		tb.Errorf("%s heard %s, want %s", who, short(got.bytes), short(want.bytes))
	}
	if got.end != want.end {
		tb.Errorf("%s saw %q, want %q", who, got.end, want.end)
	}
}

func short(s string) string {
	if len(s) > 600 {
		return fmt.Sprintf("%.300q … %q (%d bytes)", s, s[len(s)-200:], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// whatIsDirect is what both sides hear without us: as it is written, and as it is done.
func whatIsDirect(t *testing.T, o *oddity) (original, client heard) {
	r, addr := mustRecord(t, o.turns, o.ends)
	client = converse(t, o, r, addr, false)
	original = r.had(t)
	if original.bytes != o.says() || client.bytes != o.answers() {
		t.Errorf("without us the client heard %s, the original %s", short(client.bytes), short(original.bytes))
	}
	return original, client
}

// TestOddRequestsPassAsWithoutUs says every conversation of the corpus directly, then through a port on which a session asks for
// something else: in a header, whole and byte by byte, and in a body, for which requests have to wait.
func TestOddRequestsPassAsWithoutUs(t *testing.T) {
	header, body := mustFilter(t, "X-User: you"), mustBody(t, "$.user: you")
	for _, o := range corpus(t) {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			original, client := whatIsDirect(t, o)
			for _, w := range []struct {
				name   string
				filter *filters.Filter
				torn   bool
			}{{"through us", header, false}, {"in single bytes", header, true}, {"after its body was looked at", body, false}} {
				say := o.says()
				if w.torn && len(say) > 2000 || w.filter == body && strings.Contains(say, "Expect: 100") {
					continue // the latter is told to go on by us: see expect_test.go
				}
				r, addr := mustRecord(t, o.turns, o.ends)
				s := mustStage(t, addr, 0)
				s.port.Add(&Claim{Session: "you", Filter: w.filter, Open: dialLocal(mustListen(t, nobody(t)))})
				got := converse(t, o, r, s.addr, w.torn)
				compare(t, "the client, "+w.name+",", got, client)
				compare(t, "the original, "+w.name+",", r.had(t), original)
			}
		})
	}
}

// TestOddRequestsAreStolenWholeOrNotAtAll says them on a port on which a session asks for what they all carry: it gets the very
// bytes of what is clean, and none of what is not.
func TestOddRequestsAreStolenWholeOrNotAtAll(t *testing.T) {
	for _, o := range corpus(t) {
		if o.passed {
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			_, client := whatIsDirect(t, o)
			raw := o.ours()
			ours, theirs := deaf(o.turns[:raw]), deaf(o.turns[raw:])
			if len(theirs) == 0 {
				stealAll(t, o, client, false)
				if len(o.says()) < 2000 {
					stealAll(t, o, client, true)
				}
				return
			}
			session, sessionAddr := mustRecord(t, ours, clientEnds)
			original, addr := mustRecord(t, theirs, o.ends)
			s := mustStage(t, addr, 0)
			s.claim("me", mine, sessionAddr)
			compare(t, "the client", converse(t, o, original, s.addr, false), client)
			sameBytes(t, "the original", original.had(t), theirs)
			if raw > 0 {
				sameBytes(t, "the session", session.had(t), ours)
			}
			select {
			case h := <-session.heard:
				t.Errorf("the session heard %s", short(h.bytes))
			default:
			}
		})
	}
}

// stealAll says what is all for a session, which hears it as it was said.
func stealAll(t *testing.T, o *oddity, client heard, torn bool) {
	t.Helper()
	turns := deaf(o.turns)
	session, addr := mustRecord(t, turns, o.ends)
	s := mustStage(t, mustListen(t, scripted(t)), 0) // may be dialled too late to notice anything
	s.claim("me", mine, addr)
	compare(t, "the client", converse(t, o, session, s.addr, torn), client)
	sameBytes(t, "the session", session.had(t), turns)
}

func sameBytes(tb testing.TB, who string, got heard, turns []turn) {
	tb.Helper()
	want := (&oddity{turns: turns}).says()
	if got.bytes != want {
		tb.Errorf("%s heard %s, want %s", who, short(got.bytes), short(want))
	}
}

// nobody is a local process to which nothing may come.
func nobody(tb testing.TB) func(context.Context, net.Conn) {
	return func(_ context.Context, conn net.Conn) {
		b, _ := io.ReadAll(conn)
		tb.Errorf("the session heard %s", short(string(b)))
	}
}

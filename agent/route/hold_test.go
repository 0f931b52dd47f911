package route

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/magpie-k8s/magpie/filters"
)

func mustBody(tb testing.TB, expr string) *filters.Filter {
	tb.Helper()
	f, err := filters.Body(expr)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

const (
	mineInside   = `{"user":{"id":"me"}}`
	othersInside = `{"user":{"id":"you"}}`
)

// claimBody adds a claim of what has mineInside in its body.
func (s *stage) claimBody(session, addr string) {
	s.tb.Helper()
	s.port.Add(&Claim{Session: session, Filter: mustBody(s.tb, "$.user.id: me"), Open: dialLocal(addr)})
}

func post(fields, body string) string {
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: shop\r\n%sContent-Length: %d\r\n\r\n%s", fields, len(body), body)
}

func chunked(fields string, pieces ...string) string {
	s := "POST / HTTP/1.1\r\nHost: shop\r\n" + fields + "Transfer-Encoding: chunked\r\n\r\n"
	for _, p := range pieces {
		s += fmt.Sprintf("%X;a=b\r\n%s\r\n", len(p), p)
	}
	return s + "0\r\nX-Sum: 1\r\n\r\n"
}

func squeeze(tb testing.TB, coding, body string) string {
	tb.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if coding == "deflate" {
		w = zlib.NewWriter(&b)
	}
	if _, err := io.WriteString(w, body); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func TestBodiesChooseAndGoOnAsTheyCame(t *testing.T) {
	pad := func(to int) string {
		return strings.TrimSuffix(mineInside, "}") + `,"pad":"` + strings.Repeat("x", to) + `"}`
	}
	head := len(post("", pad(60_000))) - len(pad(60_000))
	full := pad(maxHeld - head - len(pad(0)))
	bomb := pad(maxInflated)
	for name, c := range map[string]struct {
		say    string
		stolen bool
	}{
		"length":                  {post("", mineInside), true},
		"other body":              {post("", othersInside), false},
		"no body":                 {get, false},
		"body of no bytes":        {post("", ""), false},
		"no JSON":                 {post("", "me"), false},
		"chunks":                  {chunked("", mineInside), true},
		"chunks torn in the word": {chunked("", mineInside[:17], mineInside[17:]), true},
		"chunks of others":        {chunked("", othersInside), false},
		"chunks of nothing":       {chunked(""), false},
		"as long as the buffer":   {post("", full), true},
		"a byte longer":           {post("", full+" "), false},
		"gzip":                    {post("Content-Encoding: gzip\r\n", squeeze(t, "gzip", mineInside)), true},
		"gzip in chunks":          {chunked("content-encoding: X-GZIP\r\n", squeeze(t, "gzip", mineInside)), true},
		"deflate":                 {post("Content-Encoding: deflate\r\n", squeeze(t, "deflate", mineInside)), true},
		"identity":                {post("Content-Encoding: identity\r\n", mineInside), true},
		"gzip of others":          {post("Content-Encoding: gzip\r\n", squeeze(t, "gzip", othersInside)), false},
		"gzip that is none":       {post("Content-Encoding: gzip\r\n", mineInside), false},
		"gzip cut off":            {post("Content-Encoding: gzip\r\n", squeeze(t, "gzip", mineInside)[:20]), false},
		"gzip of too much":        {post("Content-Encoding: gzip\r\n", squeeze(t, "gzip", bomb)), false},
		"br":                      {post("Content-Encoding: br\r\n", mineInside), false},
		"two codings":             {post("Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", mineInside), false},
		"probe":                   {post("User-Agent: kube-probe/1\r\n", mineInside), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := []step{{c.say, local}}, []step(nil)
			if !c.stolen {
				ours, theirs = nil, []step{{c.say, original}}
			}
			s := mustStage(t, mustListen(t, scripted(t, theirs...)), 0)
			s.claimBody("me", mustListen(t, scripted(t, ours...)))
			conn := mustDial(t, s.addr)
			play(t, conn, append(ours, theirs...)...)
			_ = conn.CloseWrite()
			expectEnd(t, conn)
		})
	}
}

func TestInflatingHasABound(t *testing.T) {
	for size, want := range map[int]bool{0: true, maxInflated: true, maxInflated + 1: false, 100 * maxInflated: false} {
		body := strings.Repeat(" ", size)
		for _, coding := range []string{"gzip", "deflate"} {
			got, ok := inflate([]byte(squeeze(t, coding, body)), []byte(coding))
			if ok != want || ok && string(got) != body {
				t.Errorf("%s of %d bytes: %d, %v", coding, size, len(got), ok)
			}
		}
	}
}

// All of what is held comes in single bytes too, and what follows it is another request.
func TestTornBodiesChooseAlike(t *testing.T) {
	says := []string{post("", mineInside), chunked("", mineInside), post("", othersInside), get, chunked("", othersInside), post("", mineInside)}
	s := mustStage(t, mustListen(t, scripted(t, step{says[2], original}, step{says[3], original}, step{says[4], original})), 0)
	s.claimBody("me", mustListen(t, scripted(t, step{says[0], local}, step{says[1], local}, step{says[5], local})))
	conn := mustDial(t, s.addr)
	all := strings.Join(says, "")
	for i := range len(all) {
		if _, err := io.WriteString(conn, all[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, conn, local+local+original+original+original+local)
	_ = conn.CloseWrite()
	expectEnd(t, conn)
}

func TestUndecidedClaimBlocksLaterOnesForThatRequestOnly(t *testing.T) {
	s := mustStage(t, mustHTTP(t, answering("original")), 0)
	s.claimBody("body", mustHTTP(t, answering("body")))
	s.claim("head", mine, mustHTTP(t, answering("head")))
	conn := mustDial(t, s.addr)
	r := bufio.NewReader(conn)
	tooLong := strings.Repeat(" ", maxHeld) + mineInside
	for _, c := range []struct{ say, want string }{
		{post(mine+"\r\n", mineInside), "body / " + mineInside},
		{post(mine+"\r\n", othersInside), "head / " + othersInside},
		{getMine, "head / "},
		{post("", othersInside), "original / " + othersInside},
		{post(mine+"\r\n", tooLong), "head / " + tooLong}, // nobody can say what is in it
		{post("", tooLong), "original / " + tooLong},
	} {
		go func() { _, _ = io.WriteString(conn, c.say) }()
		if _, got := readBody(t, r, "POST"); got != c.want {
			t.Fatalf("got %.100q, want %.100q", got, c.want)
		}
	}
}

func TestHeadThatDecidesDoesNotWaitForTheBody(t *testing.T) {
	head := mustFilter(t, mine)
	body := mustBody(t, "$.user.id: me")
	for name, c := range map[string]struct {
		filter *filters.Filter
		fields string
		stolen bool
	}{
		"and, no header": {filters.All(head, body), "", false},
		"or, header":     {filters.Any(head, body), mine + "\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			half := "POST / HTTP/1.1\r\n" + c.fields + "Content-Length: 100\r\n\r\nhalf"
			began := make(chan struct{})
			hears := mustListen(t, func(_ context.Context, conn net.Conn) {
				if expect(t, conn, half) {
					close(began)
				}
			})
			ours, theirs := hears, mustListen(t, scripted(t))
			if !c.stolen {
				ours, theirs = mustListen(t, nobody(t)), hears
			}
			s := mustStage(t, theirs, 0)
			s.port.Add(&Claim{Session: "me", Filter: c.filter, Open: dialLocal(ours)})
			conn := mustDial(t, s.addr)
			_, _ = io.WriteString(conn, half)
			select {
			case <-began:
			case <-time.After(patience):
				t.Fatal("waits")
			}
		})
	}
}

func TestTooLongBodyPassesAtOnce(t *testing.T) {
	head := fmt.Sprintf("POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n", maxHeld)
	began := make(chan struct{})
	s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) {
		if expect(t, conn, head) {
			close(began)
		}
	}), 0)
	s.claimBody("me", mustListen(t, nobody(t)))
	conn := mustDial(t, s.addr)
	_, _ = io.WriteString(conn, head)
	select {
	case <-began:
	case <-time.After(heldFor / 2):
		t.Fatal("waits for a body that cannot be held")
	}
}

// Chunks do not say how long they become: they pass once the buffer is full.
func TestTooManyChunksPass(t *testing.T) {
	pieces := make([]string, 20)
	for i := range pieces {
		pieces[i] = strings.Repeat(" ", 5000)
	}
	say := chunked("", append(pieces, mineInside)...)
	s := mustStage(t, mustListen(t, scripted(t, step{say, original})), 0)
	s.claimBody("me", mustListen(t, nobody(t)))
	conn := mustDial(t, s.addr)
	play(t, conn, step{say, original})
}

func TestClientThatEndsInTheBodyPasses(t *testing.T) {
	for name, say := range map[string]string{
		"length": "POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n" + mineInside,
		"chunks": strings.TrimSuffix(chunked("", mineInside), "\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) {
				if got, err := io.ReadAll(conn); err != nil || string(got) != say {
					t.Errorf("heard %q, %v", got, err)
				}
				_, _ = io.WriteString(conn, original)
			}), 0)
			s.claimBody("me", mustListen(t, nobody(t)))
			conn := mustDial(t, s.addr)
			began := time.Now()
			_, _ = io.WriteString(conn, say)
			_ = conn.CloseWrite()
			expect(t, conn, original)
			expectEnd(t, conn)
			if took := time.Since(began); took > heldFor/2 {
				t.Errorf("waited %v for a body that cannot come", took)
			}
		})
	}
}

func TestBodyInDoubtIsForNoSession(t *testing.T) {
	say := strings.Replace(chunked("", mineInside), "0\r\n", "0x\r\n", 1)
	s := mustStage(t, mustListen(t, scripted(t, step{say + getMine, original})), 0)
	s.claimBody("body", mustListen(t, nobody(t)))
	s.claim("head", mine, mustListen(t, nobody(t)))
	play(t, mustDial(t, s.addr), step{say + getMine, original})
}

func TestAnswersToEarlierRequestsDoNotWaitForABody(t *testing.T) {
	half, rest := post("", mineInside)[:65], post("", mineInside)[65:]
	s := mustStage(t, mustListen(t, scripted(t, step{get, original})), 0)
	s.claimBody("me", mustListen(t, scripted(t, step{half + rest, local})))
	conn := mustDial(t, s.addr)
	play(t, conn, step{get + half, original}, step{rest, local})
}

// The clock is the bubble's: nothing here takes a second.
func TestLateBodyPasses(t *testing.T) {
	for name, c := range map[string]struct {
		wait   time.Duration
		stolen bool
	}{"in time": {heldFor - time.Millisecond, true}, "late": {heldFor + time.Millisecond, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				say := post("", mineInside)
				near, client := net.Pipe()
				toOriginal, original2 := net.Pipe()
				toSession, session := net.Pipe()
				port := &Port{}
				port.Add(&Claim{Session: "me", Filter: mustBody(t, "$.user.id: me"), Open: func(context.Context, Visit) (Stream, error) {
					return pipeStream{toSession}, nil
				}})
				proxy := New(Config{DialOriginal: func(context.Context, netip.AddrPort, netip.AddrPort) (net.Conn, error) { return toOriginal, nil }})
				go proxy.Serve(t.Context(), client, port)
				heard := make(chan string)
				for who, conn := range map[string]net.Conn{"original": original2, "session": session} {
					go func() {
						b := make([]byte, len(say))
						if n, _ := io.ReadFull(conn, b); n > 0 {
							heard <- who + string(b[:n])
							_, _ = io.WriteString(conn, local)
						}
					}()
				}
				_, _ = io.WriteString(near, say[:len(say)-5])
				time.Sleep(c.wait)
				go func() { _, _ = io.WriteString(near, say[len(say)-5:]) }()
				want := "original" + say
				if c.stolen {
					want = "session" + say
				}
				if got := <-heard; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				expect(t, near, local)
				_ = near.Close()
				_ = original2.Close()
				_ = session.Close()
			})
		})
	}
}

// A pipeStream is a net.Pipe that cannot be half closed.
type pipeStream struct{ net.Conn }

func (p pipeStream) CloseWrite() error { return p.Close() }

func TestHeldRequestLeavesWithItsClient(t *testing.T) {
	asked := make(chan struct{}, 1)
	s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) {
		asked <- struct{}{}
		_, _ = io.Copy(io.Discard, conn)
	}), 0)
	s.claimBody("me", mustListen(t, nobody(t)))
	conn := mustDial(t, s.addr)
	_, _ = io.WriteString(conn, post("", mineInside)[:65])
	<-asked
	_ = conn.SetLinger(0)
	_ = conn.Close()
	for end := time.Now().Add(patience); s.proxy.Connections() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("is served on")
		}
	}
}

// What it costs to look at a body: the whole way of a request, beside a session that asks for a header.
func BenchmarkHeldBody(b *testing.B) {
	for _, size := range []int{1 << 10, 60 << 10} {
		body := `{"user":{"id":"you"},"pad":"` + strings.Repeat("x", size) + `"}`
		say := post("", body)
		for _, claimed := range []string{"header", "body"} {
			b.Run(fmt.Sprintf("%s, %d KiB", claimed, size>>10), func(b *testing.B) {
				s := mustStage(b, mustHTTP(b, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.WriteString(w, "original")
				}), 0)
				if claimed == "body" {
					s.claimBody("me", "127.0.0.1:1")
				} else {
					s.claim("me", mine, "127.0.0.1:1")
				}
				conn := mustDial(b, s.addr)
				_ = conn.SetDeadline(time.Time{})
				r := bufio.NewReader(conn)
				for b.Loop() {
					_, _ = io.WriteString(conn, say)
					readBody(b, r, "POST")
				}
			})
		}
	}
}

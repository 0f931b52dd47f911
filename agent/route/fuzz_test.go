package route

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/filters"
)

// starved is how long a fuzzed connection may take: it is fuzzed when the machine has nothing else to do.
const starved = 2 * time.Minute

// A fuzzed is one client connection over socket pairs. Nothing of the network is used up by millions of them.
type fuzzed struct {
	client, original, session *net.UnixConn // our ends are with the proxy
	served                    sync.WaitGroup
}

// mustFuzzed serves a connection on whose port a session asks for the field that expr covers.
func mustFuzzed(tb testing.TB, expr *Claim) *fuzzed {
	tb.Helper()
	f := &fuzzed{}
	var client, original, session *net.UnixConn
	f.client, client = mustPair(tb)
	f.original, original = mustPair(tb)
	f.session, session = mustPair(tb)
	port := &Port{}
	claim := *expr
	opened := false
	claim.Open = func(context.Context, Visit) (Stream, error) {
		if opened {
			return nil, syscall.ECONNREFUSED
		}
		opened = true
		return session, nil
	}
	port.Add(&claim)
	proxy := New(Config{DialOriginal: func(context.Context, netip.AddrPort, netip.AddrPort) (net.Conn, error) { return original, nil }})
	f.served.Go(func() {
		proxy.Serve(context.Background(), client, port)
		_ = original.Close()
		_ = session.Close()
	})
	return f
}

func (f *fuzzed) close() {
	_ = f.client.Close()
	_ = f.original.Close()
	_ = f.session.Close()
	f.served.Wait()
}

func mustPair(tb testing.TB) (a, b *net.UnixConn) {
	tb.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		tb.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(file)
		if err != nil {
			tb.Fatal(err)
		}
		_ = file.Close()
		conns[i] = conn.(*net.UnixConn)
		_ = conns[i].SetDeadline(time.Now().Add(starved))
	}
	_ = conns[1].SetDeadline(time.Time{})
	return conns[0], conns[1]
}

// tear writes b in pieces whose lengths come from torn, and says the end.
func tear(conn *net.UnixConn, b []byte, torn uint64) {
	for len(b) > 0 {
		n := len(b)
		if torn != 0 {
			n = min(n, 1+int(torn&0x1f))
			torn = torn>>5 | torn<<59
		}
		if _, err := conn.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
	_ = conn.CloseWrite()
}

// FuzzPassed says anything to a port where nobody is asked for, and is answered anything: both sides must hear it as it was said.
// That holds while bodies are held for a filter, too, but for the 100 that we then say to who expects it; and up to as many
// unanswered requests as a connection may have.
func FuzzPassed(f *testing.F) {
	for i, o := range corpus(f) {
		if say := o.says(); len(say) < longSeed && len(o.answers()) < longSeed {
			f.Add([]byte(say), []byte(o.answers()), uint64(i)*0x9e3779b97f4a7c15, i%2 == 0, i%3 == 0)
		}
	}
	const never = "x-nobody-ever-says: 76b1b2a9d7f4e0c35a"
	head := &Claim{Session: "me", Filter: mustFilter(f, never)}
	body := &Claim{Session: "me", Filter: mustBody(f, `$["x-nobody-ever-says"]: 76b1b2a9d7f4e0c35a`)}
	f.Fuzz(func(t *testing.T, say, answer []byte, torn uint64, first, held bool) {
		if len(say) > maxPipelined*len("G / HTTP/1.1\r\n\r\n") || held && bytes.Contains(bytes.ToLower(say), []byte("expect:")) {
			return
		}
		claim := head
		if held {
			claim = body
		}
		c := mustFuzzed(t, claim)
		defer c.close()
		var original, client []byte
		var original2, client2 error
		var all sync.WaitGroup
		all.Go(func() {
			if first {
				tear(c.original, answer, torn>>7)
			}
			b := make([]byte, 1)
			n, _ := c.original.Read(b)
			if !first {
				tear(c.original, answer, torn>>7)
			}
			original, original2 = io.ReadAll(c.original)
			original = append(b[:n], original...)
		})
		all.Go(func() { tear(c.client, say, torn) })
		client, client2 = io.ReadAll(c.client)
		all.Wait()
		if !bytes.Equal(original, say) || original2 != nil {
			t.Errorf("the original heard %q, %v, want %q", original, original2, say)
		}
		if !bytes.Equal(client, answer) || client2 != nil {
			t.Errorf("the client heard %q, %v, want %q", client, client2, answer)
		}
	})
}

// FuzzStolen says anything to a port where what carries a field is a session's. Each side is a net/http of its own: a session
// gets whole requests, which net/http reads and which carry the field, and no byte of what follows one that is in doubt.
func FuzzStolen(f *testing.F) {
	for i, o := range corpus(f) {
		if say := o.says(); len(say) < longSeed {
			f.Add([]byte(say), uint64(i)*0x9e3779b97f4a7c15)
			f.Add([]byte(say+get+getMine), uint64(0))
		}
	}
	wanted := &Claim{Session: "me", Filter: mustFilter(f, mine)}
	f.Fuzz(func(t *testing.T, say []byte, torn uint64) {
		c := mustFuzzed(t, wanted)
		defer c.close()
		ours, theirs, sure := divide(say)
		var original, session []byte
		var all sync.WaitGroup
		all.Go(func() { original = answerAll(c.original) })
		all.Go(func() { session = answerAll(c.session) })
		all.Go(func() { tear(c.client, say, torn) })
		_, err := io.Copy(io.Discard, c.client)
		c.served.Wait()
		all.Wait()
		if os.IsTimeout(err) {
			t.Fatalf("hangs at %q", say)
		}
		if !bytes.HasPrefix(ours, session) {
			t.Fatalf("the session heard %q, want of %q: %q", session, say, ours)
		}
		if sure && !bytes.HasPrefix(theirs, original) {
			t.Fatalf("the original heard %q, want of %q: %q", original, say, theirs)
		}
	})
}

// FuzzHeld says anything to a port where what says a word in its body is a session's. Whatever the session hears is whole requests
// that net/http reads, and whose bodies, as net/http reads them, say it.
func FuzzHeld(f *testing.F) {
	for i, o := range corpus(f) {
		if say := o.says(); len(say) < longSeed && strings.Contains(say, "POST") {
			f.Add([]byte(say), uint64(i)*0x9e3779b97f4a7c15)
		}
	}
	for i, say := range []string{
		post("", mineInside), chunked("", mineInside), chunked("", mineInside[:9], mineInside[9:]), post("", othersInside), chunked("Expect: 100-continue\r\n", mineInside),
		post("Content-Encoding: gzip\r\n", mineInside), get,
	} {
		f.Add([]byte(say+post("", mineInside)), uint64(i)*0x9e3779b97f4a7c15)
		f.Add([]byte(chunked("", othersInside)+say), uint64(0))
	}
	wanted := &Claim{Session: "me", Filter: mustBody(f, "$.user.id: me")}
	f.Fuzz(func(t *testing.T, say []byte, torn uint64) {
		if bytes.Contains(bytes.ToLower(say), []byte("content-encoding")) {
			return // net/http does not inflate
		}
		c := mustFuzzed(t, wanted)
		defer c.close()
		var session []byte
		var all sync.WaitGroup
		all.Go(func() { answerAll(c.original) })
		all.Go(func() { session = answerAll(c.session) })
		all.Go(func() { tear(c.client, say, torn) })
		_, err := io.Copy(io.Discard, c.client)
		c.served.Wait()
		all.Wait()
		if os.IsTimeout(err) {
			t.Fatalf("hangs at %q", say)
		}
		checkHeld(t, bufio.NewReaderSize(bytes.NewReader(session), maxHead), wanted.Filter, say)
	})
}

// checkHeld reads the requests that a session heard.
func checkHeld(t *testing.T, r *bufio.Reader, wanted *filters.Filter, say []byte) {
	t.Helper()
	for {
		if _, err := r.Peek(1); err != nil {
			return
		}
		req, err := http.ReadRequest(r)
		if excused(err) {
			return
		}
		var body []byte
		if err == nil {
			body, err = io.ReadAll(req.Body)
		}
		if excused(err) {
			return
		}
		if err != nil || !wanted.Matches(&filters.Request{Body: body, BodyKnown: true}) {
			t.Fatalf("the session heard a request with the body %q, %v, of %q", body, err, say)
		}
	}
}

// divide returns what of b is for the session, up to the first byte that is in doubt, and what is for the original. It reports
// false where the original may have more of it: when either net/http does not take a request that we take, or it does not end.
func divide(b []byte) (ours, theirs []byte, sure bool) {
	sure = true
	between, mine := false, false
	for ; len(b) > 0; between = true {
		if between && bytes.HasPrefix(b, []byte("\r\n")) {
			if b = b[2:]; !mine {
				theirs = append(theirs, "\r\n"...)
				sure = false
			}
		}
		var h head
		if h.parse(b) != clean {
			break
		}
		end, v := measure(b)
		req, _, err := readRequest(b)
		switch mine = isMine(&h, b); {
		case mine && req == nil && !excused(err):
			return ours, append(theirs, b...), sure
		case mine && withoutHTTP2(b[:h.n]) != nil:
			ours = append(append(ours, withoutHTTP2(b[:h.n])...), b[h.n:end]...)
		case mine:
			ours = append(ours, b[:end]...)
		default:
			theirs = append(theirs, b[:end]...)
		}
		sure = sure && v == clean && err == nil
		if b = b[end:]; v != clean {
			break
		}
	}
	return ours, append(theirs, b...), sure
}

func isMine(h *head, b []byte) bool {
	for _, f := range h.fields {
		if fold(b[f.name:f.colon], "x-user") && fold(b[f.value:f.end], "me") && !h.probe {
			return true
		}
	}
	return false
}

// answerAll answers requests as long as they can be read, and keeps what it hears.
func answerAll(conn *net.UnixConn) []byte {
	var all bytes.Buffer
	r := bufio.NewReader(io.TeeReader(conn, &all))
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			break
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			break
		}
		answer := original
		if req.Method == http.MethodHead {
			answer, _, _ = strings.Cut(original, "original")
		} else if req.Method == http.MethodConnect {
			answer = "HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			break
		}
	}
	_ = conn.CloseWrite()
	_, _ = io.Copy(&all, conn)
	return all.Bytes()
}

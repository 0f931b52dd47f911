package handshake

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// An end is one way to end a connection, and how the other side may notice: by the word of TLS or by TCP alone.
type end struct {
	err    error // of the read
	worded bool
}

// wire counts what a TLS connection gets from TCP, to tell the ends apart.
type ending struct {
	*net.TCPConn
	mu  sync.Mutex
	end error
}

func (e *ending) Read(b []byte) (int, error) {
	n, err := e.TCPConn.Read(b)
	if err != nil {
		e.mu.Lock()
		e.end = err
		e.mu.Unlock()
	}
	return n, err
}

// see reads to the end and says how it came. A word leaves TCP unread.
func see(c *tls.Conn, e *ending) end {
	_, err := io.Copy(io.Discard, c)
	e.mu.Lock()
	defer e.mu.Unlock()
	if errors.Is(err, syscall.ECONNRESET) {
		err = syscall.ECONNRESET
	}
	return end{err, err == nil && e.end == nil}
}

// How a side may end.
var ways = map[string]func(c *tls.Conn, tcp *net.TCPConn){
	"word":           func(c *tls.Conn, _ *net.TCPConn) { _ = c.CloseWrite() },
	"word and close": func(c *tls.Conn, _ *net.TCPConn) { c.Close() },
	"no word":        func(_ *tls.Conn, tcp *net.TCPConn) { _ = tcp.CloseWrite() },
	"reset": func(_ *tls.Conn, tcp *net.TCPConn) {
		_ = tcp.SetLinger(0)
		tcp.Close()
	},
}

// TestEndsPassAsTheyAre has either side end in each way, direct and through us.
func TestEndsPassAsTheyAre(t *testing.T) {
	pair, own := mustIssuer(t, "ca").mustIssue(t, shop)
	for name, way := range ways {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, clientEnds := range []bool{true, false} {
				var ends [2]end
				for i, through := range []bool{false, true} {
					ends[i] = endOnce(t, pair, own, version, way, clientEnds, through)
				}
				if ends[0] != ends[1] {
					t.Errorf("%s, version %x, client ends %v: direct %+v, through us %+v", name, version, clientEnds, ends[0], ends[1])
				}
			}
		}
	}
}

// endOnce returns how the other side notices.
func endOnce(t *testing.T, pair Pair, own tls.Certificate, version uint16, way func(*tls.Conn, *net.TCPConn), clientEnds, through bool) end {
	t.Helper()
	l := mustListen(t)
	defer l.Close()
	at := l.Addr()
	if through {
		at = mustAgent(t, New(Config{Own: pair}), (&original{Listener: l}).dial).Addr()
	}
	theirs := make(chan *ending, 1)
	server := make(chan *tls.Conn, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		e := &ending{TCPConn: raw.(*net.TCPConn)}
		s := tls.Server(e, &tls.Config{Certificates: []tls.Certificate{own}, MaxVersion: version})
		_ = s.Handshake()
		_, _ = io.ReadFull(s, make([]byte, 4))
		_, _ = io.WriteString(s, "pong")
		theirs <- e
		server <- s
	}()
	raw, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	e := &ending{TCPConn: raw.(*net.TCPConn)}
	c := tls.Client(e, insecure(shop))
	if _, err := io.WriteString(c, "ping"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	se, s := <-theirs, <-server
	defer e.TCPConn.Close()
	defer se.TCPConn.Close()
	_, _ = e.SetDeadline(time.Now().Add(enough)), se.SetDeadline(time.Now().Add(enough))
	if clientEnds {
		way(c, e.TCPConn)
		return see(s, se)
	}
	way(s, se.TCPConn)
	return see(c, e)
}

func TestHalfAConnectionGoesOn(t *testing.T) {
	pair, own := mustIssuer(t, "ca").mustIssue(t, shop)
	l := mustListen(t)
	mustServe(t, l, func(raw net.Conn) {
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{own}})
		defer c.Close()
		b, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(b))
	})
	a := mustAgent(t, New(Config{Own: pair}), (&original{Listener: l}).dial)
	c := tls.Client(a.dial(t), insecure(shop))
	text := bytes.Repeat([]byte("magpie"), 200_000)
	if _, err := c.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || !bytes.Equal(b, bytes.ToUpper(text)) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestAPeerThatReadsSlowlyHearsTheLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, own := mustIssuer(t, "ca").mustIssue(t, shop)
		ours, theirs := net.Pipe()
		c := &Conn{line: &line{Conn: ours}}
		c.tls = tls.Server(c.line, &tls.Config{Certificates: []tls.Certificate{own}, SessionTicketsDisabled: true})
		over := make(chan error, 1)
		go func() {
			_, _ = io.WriteString(c, "all")
			over <- c.CloseWrite()
		}()
		peer := tls.Client(theirs, insecure(shop))
		if _, err := io.ReadFull(peer, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n, err := peer.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%d, %v", n, err)
		}
		if err := <-over; err != nil {
			t.Error(err)
		}
		begin := time.Now()
		c.Close() // its last word is said already
		if time.Since(begin) > 0 {
			t.Error("close waits")
		}
		theirs.Close()
	})
}

func TestCloseDoesNotWaitForAPeerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, own := mustIssuer(t, "ca").mustIssue(t, shop)
		ours, theirs := net.Pipe()
		c := &Conn{line: &line{Conn: ours}}
		c.tls = tls.Server(c.line, &tls.Config{Certificates: []tls.Certificate{own}, SessionTicketsDisabled: true})
		done := make(chan error, 1)
		go func() { done <- tls.Client(theirs, insecure(shop)).Handshake() }()
		if err := errors.Join(c.tls.Handshake(), <-done); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		c.Close()
		if took := time.Since(begin); took != lastWord {
			t.Errorf("close took %v", took)
		}
		theirs.Close()
	})
}

func TestAReadThatWasPokedGoesOn(t *testing.T) {
	pair, own := mustIssuer(t, "ca").mustIssue(t, shop)
	o := mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}})
	p := New(Config{Own: pair})
	l := mustListen(t)
	defer l.Close()
	client := make(chan *tls.Conn, 1)
	go func() {
		c, err := tls.Dial("tcp", l.Addr().String(), insecure(shop))
		if err == nil {
			client <- c
		}
	}()
	raw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Accept(t.Context(), raw, o.dial)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer r.Client.Close()
	c := <-client
	defer c.Close()
	b := make([]byte, 5)
	for range 3 {
		_ = r.Client.SetReadDeadline(time.Unix(1, 0))
		if n, err := r.Client.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d, %v", n, err)
		}
		_ = r.Client.SetReadDeadline(time.Time{})
	}
	_, _ = io.WriteString(c, "hello")
	if _, err := io.ReadFull(r.Client, b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}

// BenchmarkHandshake is a connection with a request and an answer of a byte, direct and through us.
func BenchmarkHandshake(b *testing.B) {
	pair, own := mustIssuer(b, "ca").mustIssue(b, shop)
	o := mustOriginal(b, &tls.Config{Certificates: []tls.Certificate{own}})
	a := mustAgent(b, New(Config{Own: pair}), o.dial)
	go func() {
		for range a.results {
		}
	}()
	b.Cleanup(func() { close(a.results) })
	go func() {
		for range o.seen {
		}
	}()
	for name, at := range map[string]net.Addr{"direct": o.Addr(), "through": a.Addr()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c, err := tls.Dial("tcp", at.String(), insecure(shop))
				if err != nil {
					b.Fatal(err)
				}
				if err := echoes(c, "x"); err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
	close(o.seen)
}

// BenchmarkBytes is a large body there and back, direct and through us.
func BenchmarkBytes(b *testing.B) {
	pair, own := mustIssuer(b, "ca").mustIssue(b, shop)
	o := mustOriginal(b, &tls.Config{Certificates: []tls.Certificate{own}})
	a := mustAgent(b, New(Config{Own: pair}), o.dial)
	for name, at := range map[string]net.Addr{"direct": o.Addr(), "through": a.Addr()} {
		b.Run(name, func(b *testing.B) {
			c, err := tls.Dial("tcp", at.String(), insecure(shop))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			chunk := make([]byte, 64<<10)
			b.SetBytes(int64(len(chunk)))
			go func() {
				for {
					if _, err := c.Write(chunk); err != nil {
						return
					}
				}
			}()
			back := make([]byte, len(chunk))
			for b.Loop() {
				if _, err := io.ReadFull(c, back); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

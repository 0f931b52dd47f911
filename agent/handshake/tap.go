package handshake

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// maxHead bounds what is read before a connection is decided on: a hello of 64 KiB, which is the most that crypto/tls takes, in small records.
const maxHead = 128 << 10

var (
	errPlain = errors.New("it is no TLS")
	errLong  = errors.New("the hello has no end")
)

// A tap is a client's connection that TLS reads from and, until it passes, does not write to: what was read can be taken back.
type tap struct {
	line
	decide func(*tls.ClientHelloInfo) (*tls.Config, error)
	passed bool   // TLS has the connection. Set within the handshake, which the reader and writer both are
	head   []byte // what was read before
	err    error  // how reading ended
}

// decide is what all servers' configurations ask.
func decide(chi *tls.ClientHelloInfo) (*tls.Config, error) { return chi.Conn.(*tap).decide(chi) }

func (t *tap) Read(b []byte) (int, error) {
	if t.passed {
		return t.line.Read(b)
	}
	if len(t.head) >= maxHead {
		return 0, errLong
	}
	n, err := t.line.Read(b[:min(len(b), maxHead-len(t.head))])
	t.head = append(t.head, b[:n]...)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.err = err
	}
	if begins, enough := Looks(t.head); enough && !begins {
		return 0, errPlain
	}
	return n, err
}

func (t *tap) Write(b []byte) (int, error) {
	if !t.passed {
		return len(b), nil // an alert that is ours, not the original's
	}
	return t.line.Write(b)
}

// pass gives the connection to TLS for good.
func (t *tap) pass() { t.passed, t.head = true, nil }

// whole is the client as if nobody had read from it.
func (t *tap) whole() net.Conn {
	_ = t.SetDeadline(time.Time{})
	if len(t.head) == 0 && t.err == nil {
		return t.Conn
	}
	return &replay{line: line{Conn: t.Conn}, head: t.head, err: t.err}
}

// A replay is a connection some of whose bytes, and perhaps its end, were read before.
type replay struct {
	line
	head []byte
	err  error
}

func (r *replay) Read(b []byte) (int, error) {
	switch {
	case len(r.head) > 0:
		n := copy(b, r.head)
		if r.head = r.head[n:]; len(r.head) == 0 {
			r.head = nil
		}
		return n, nil
	case r.err != nil:
		return 0, r.err
	}
	return r.Conn.Read(b)
}

// A line is a connection without TLS, on which bare says how it ended.
type line struct {
	net.Conn
	bare atomic.Bool // the other end said no more, in TCP
	sips int         // reads that are left, when there is a bound: see sip
}

const unbound = 0

func (l *line) Read(b []byte) (int, error) {
	switch l.sips {
	case unbound:
	case 1:
		return 0, os.ErrDeadlineExceeded
	default:
		l.sips--
	}
	n, err := l.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		l.bare.Store(true)
	}
	return n, err
}

// SetWriteDeadline is called by crypto/tls alone, which gives its last word five seconds: a slow peer would take what it read for a part of the whole.
// Deadlines of ours go past it: see Conn.
func (l *line) SetWriteDeadline(time.Time) error { return nil }

// CloseWrite ends our direction.
func (l *line) CloseWrite() error {
	if half, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return l.Close()
}

// Reset ends the connection so that the peer cannot take it for a proper end.
func (l *line) Reset(errno syscall.Errno) {
	inner := l.Conn
	if within, ok := inner.(interface{ NetConn() net.Conn }); ok {
		inner = within.NetConn()
	}
	switch c := inner.(type) {
	case interface{ SetLinger(sec int) error }:
		_ = c.SetLinger(0)
	case interface{ Reset(errno syscall.Errno) }:
		c.Reset(errno)
	}
	_ = l.Close()
}

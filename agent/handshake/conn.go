package handshake

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// A Conn is the inside of TLS. Its ends are those of the connection around it: a reset is one there, and where the other side of the agent ended
// without TLS' own word for it (close_notify), so does this side, so that nobody takes a part for the whole. It is safe for concurrent use as a net.Conn is.
type Conn struct {
	tls   *tls.Conn
	line  *line
	first []byte               // was read ahead
	other atomic.Pointer[Conn] // the connection on the other side of the agent; nil if there is none
	alarm func(error)          // told of an error of Read; may be nil
}

// ConnectionState says what was agreed on: the server's name, the protocol, the peer's certificates.
func (c *Conn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// Read reads what is inside; io.EOF means that the peer said all, with or without the word.
func (c *Conn) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	n, err := c.tls.Read(b)
	if err != nil && c.alarm != nil {
		c.alarm(err)
	}
	return n, err
}

func (c *Conn) Write(b []byte) (int, error) { return c.tls.Write(b) }

// wordless reports whether the other side ended without a word.
func (c *Conn) wordless() bool {
	other := c.other.Load()
	return other != nil && other.line.bare.Load()
}

// CloseWrite ends our direction as the other side did. It waits for a peer that reads slowly, as Write does.
func (c *Conn) CloseWrite() error {
	if c.wordless() {
		return c.line.CloseWrite()
	}
	return c.tls.CloseWrite()
}

// lastWord bounds how long Close waits for a peer that does not read.
const lastWord = 5 * time.Second

// Close ends both directions.
func (c *Conn) Close() error {
	if c.wordless() {
		return c.line.Close()
	}
	_ = c.SetWriteDeadline(time.Now().Add(lastWord))
	return c.tls.Close()
}

// Reset breaks the connection.
func (c *Conn) Reset(errno syscall.Errno) { c.line.Reset(errno) }

// LocalAddr is that of the connection around it.
func (c *Conn) LocalAddr() net.Addr { return c.line.LocalAddr() }

// RemoteAddr is that of the connection around it.
func (c *Conn) RemoteAddr() net.Addr { return c.line.RemoteAddr() }

// SetDeadline is that of net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.line.Conn.SetDeadline(t) }

// SetReadDeadline is that of net.Conn: a read that it ended can be begun again.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.line.SetReadDeadline(t) }

// SetWriteDeadline is that of net.Conn: after a write that it ended nothing can be written.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.line.Conn.SetWriteDeadline(t) }

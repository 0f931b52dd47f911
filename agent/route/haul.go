package route

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// haulFrom is the length from which on the kernel moves a body (splice(2)). Below it the two extra calls and the pipe cost more
// than the copies that they save.
const haulFrom = 1 << 20

// canHaul reports whether the kernel can move bytes from src to dst.
func canHaul(dst, src *socket) bool {
	return dst.tcp != nil && src.tcp != nil && src.in.len() == 0
}

// haul moves n bytes from src to dst, fewer at src's end.
func haul(dst, src *socket, n int64) (int64, error) {
	return dst.tcp.ReadFrom(&io.LimitedReader{R: src.tcp, N: n})
}

// haulBody moves the rest of a long request body. What is left when it was poked comes the ordinary way.
func (c *conn) haulBody() error {
	p := c.turn
	if c.eof || c.body.kind != lengthBody || c.body.left < haulFrom || !canHaul(p.socket, c.client) {
		return nil
	}
	n, err := haul(p.socket, c.client, c.body.left)
	if c.body.left -= n; c.body.left == 0 {
		c.body = body{}
		return c.sent()
	}
	switch {
	case err == nil:
		c.eof = true
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		_ = c.client.SetReadDeadline(time.Time{})
		return errChanged
	case errors.Is(err, syscall.ECONNRESET): // by either side; the error is told only once
		c.abort()
		return errOver
	}
	return c.unheard(p)
}

// haulAnswer moves the rest of a long answer. It reports false when nothing more shall be read from p.
func (c *conn) haulAnswer(p *party) bool {
	if p.unframed || p.body.kind != lengthBody || p.body.left < haulFrom || !canHaul(c.client, p.socket) {
		return true
	}
	n, err := haul(c.client, p.socket, p.body.left)
	p.body.left -= n
	switch {
	case err != nil:
		c.abort()
		return false
	case p.body.left > 0:
		return true // The end will be read again.
	}
	p.body, p.final = body{}, false
	c.settle(p, 1)
	return true
}

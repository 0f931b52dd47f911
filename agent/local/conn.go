package local

import (
	"bytes"
	"fmt"
)

// A conn is a stream to the local process that notices when other things are spoken there than were asked for.
type conn struct {
	Stream
	adapter *adapter
	start   []byte // what came first, until it is enough to tell
	known   bool   // it was enough
	foreign error  // it was not what it should be
}

// A foreignError says that the local process does not speak what it was said to.
type foreignError struct{ asked Protocol }

func (e *foreignError) Error() string {
	if e.asked == HTTP2 {
		return "the local process does not speak HTTP/2 without TLS; say --local-protocol h1, or nothing"
	}
	return "the local process does not speak HTTP/1; say --local-protocol h2c, or nothing"
}

func (c *conn) Read(b []byte) (int, error) {
	if c.foreign != nil {
		return 0, c.foreign
	}
	n, err := c.Stream.Read(b)
	if err != nil {
		c.adapter.ends(err)
	}
	if n > 0 && !c.known {
		if c.look(b[:n]); c.foreign != nil {
			return 0, c.foreign
		}
	}
	return n, err
}

// look judges by the first bytes.
func (c *conn) look(b []byte) {
	c.start = append(c.start, b[:min(len(b), frameHead-len(c.start))]...)
	version := []byte("HTTP/1.")
	n := min(len(c.start), len(version))
	foreign := !bytes.Equal(c.start[:n], version[:n])
	if c.adapter.to == HTTP2 {
		// The server's preface is a SETTINGS frame (section 3.4) on stream 0.
		foreign = len(c.start) > 3 && c.start[3] != 4 || len(c.start) == frameHead && !bytes.Equal(c.start[5:], make([]byte, 4))
	}
	if foreign {
		c.foreign = &foreignError{c.adapter.to}
		c.adapter.hears(c.foreign)
	}
	c.known = foreign || len(c.start) == frameHead
}

func (c *conn) Close() error {
	c.adapter.forget(c)
	return c.Stream.Close()
}

// words is what Magpie says of an error in its own name.
func words(cause error) string { return fmt.Sprintf("Magpie: %v\n", cause) }

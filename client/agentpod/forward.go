package agentpod

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moby/spdystream/spdy"
	corev1 "k8s.io/api/core/v1"

	"github.com/magpie-k8s/magpie/wire"
)

const (
	// The streams of a port-forward: one for what the node has to say, one for the bytes. The names are SPDY's.
	complaints spdy.StreamId = 1
	data       spdy.StreamId = 3

	// Bounds of what the node says, and of the time it has for that once the bytes have ended.
	maxComplaint  = 4 << 10
	complaintTime = time.Second

	readBuffer = 32 << 10
)

// A forwarded is a pipe to the agent's port: a port-forward's connection with its two streams, and no other. Several on one connection
// would share its window, and client-go's way to open them costs a round trip for each.
type forwarded struct {
	conn   net.Conn
	framer *spdy.Framer

	// Only the reader touches these.
	unread []byte
	said   strings.Builder
	heard  bool // there were bytes
	ended  bool // they have
	why    error

	mu  sync.Mutex // of what is written
	out []byte
}

// forward opens a pipe. It does not wait for the node: whether somebody listens there shows when the pipe is read.
func (a *Agent) forward(ctx context.Context) (io.ReadWriteCloser, error) {
	at := a.cluster.Client().CoreV1().RESTClient().Post().Namespace(a.namespace).Resource("pods").Name(a.name).SubResource("portforward").URL()
	conn, err := upgrade(ctx, a.cluster.Config(), at, &a.old)
	if err != nil {
		return nil, err
	}
	f, err := newForwarded(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open port-forward: %w", err)
	}
	return f, nil
}

func newForwarded(conn net.Conn) (*forwarded, error) {
	framer, err := spdy.NewFramer(conn, bufio.NewReaderSize(conn, readBuffer))
	if err != nil {
		return nil, err
	}
	f := &forwarded{conn: conn, framer: framer}
	for _, frame := range []spdy.Frame{
		syn(complaints, corev1.StreamTypeError),
		&spdy.DataFrame{StreamId: complaints, Flags: spdy.DataFlagFin}, // we have none
		syn(data, corev1.StreamTypeData),
	} {
		if err := framer.WriteFrame(frame); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func syn(id spdy.StreamId, kind string) *spdy.SynStreamFrame {
	return &spdy.SynStreamFrame{StreamId: id, Headers: http.Header{
		corev1.StreamType:                 {kind},
		corev1.PortHeader:                 {strconv.Itoa(Port)},
		corev1.PortForwardRequestIDHeader: {"0"},
	}}
}

// Read tells at the end what the node said about it.
func (f *forwarded) Read(b []byte) (int, error) {
	for len(f.unread) == 0 {
		if f.why != nil {
			return 0, f.why
		}
		if err := f.readFrame(); err != nil {
			f.why = f.explain(err)
		}
	}
	n := copy(b, f.unread)
	f.unread = f.unread[n:]
	return n, nil
}

func (f *forwarded) readFrame() error {
	frame, err := f.framer.ReadFrame()
	if err != nil {
		return err
	}
	switch frame := frame.(type) {
	case *spdy.DataFrame:
		if frame.StreamId == data {
			f.unread, f.heard = frame.Data, f.heard || len(frame.Data) > 0
		} else if room := maxComplaint - f.said.Len(); room > 0 {
			f.said.Write(frame.Data[:min(len(frame.Data), room)])
		}
		if frame.Flags&spdy.DataFlagFin != 0 {
			return f.end(frame.StreamId)
		}
	case *spdy.SynReplyFrame:
		if frame.CFHeader.Flags&spdy.ControlFlagFin != 0 {
			return f.end(frame.StreamId)
		}
	case *spdy.RstStreamFrame:
		return f.end(frame.StreamId)
	case *spdy.PingFrame:
		return f.write(func() error { return f.framer.WriteFrame(frame) })
	case *spdy.GoAwayFrame:
		return io.EOF
	}
	return nil
}

// end takes note of the end of a stream. That of the bytes is the pipe's, when the node has said why.
func (f *forwarded) end(id spdy.StreamId) error {
	if id == complaints {
		if f.ended || f.said.Len() > 0 {
			return io.EOF
		}
		return nil
	}
	if f.said.Len() > 0 || len(f.unread) > 0 {
		return io.EOF
	}
	f.ended = true
	time.AfterFunc(complaintTime, func() { f.conn.Close() })
	return nil
}

// explain is the end of the pipe in our words.
func (f *forwarded) explain(err error) error {
	said := line(f.said.String())
	switch {
	case strings.Contains(said, "connection refused"):
		return &wire.Error{Errno: syscall.ECONNREFUSED, Cause: "the agent does not listen"}
	case said != "":
		return &wire.Error{Errno: syscall.ECONNRESET, Cause: "port-forward: " + said}
	case f.ended && !f.heard: // it let us in and went
		return &wire.Error{Errno: syscall.ECONNREFUSED, Cause: "the agent does not listen any more"}
	case f.ended:
		return io.EOF
	}
	return err
}

// Write sends one frame, in one piece: the framer would make three messages of it.
func (f *forwarded) Write(b []byte) (int, error) {
	if len(b) > spdy.MaxDataLength {
		return 0, syscall.EMSGSIZE // chunks of bonds are much smaller
	}
	err := f.write(func() error {
		f.out = binary.BigEndian.AppendUint32(f.out[:0], uint32(data))
		f.out = binary.BigEndian.AppendUint32(f.out, uint32(len(b))) // no flags
		f.out = append(f.out, b...)
		_, err := f.conn.Write(f.out)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *forwarded) write(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return do()
}

// Close ends both directions.
func (f *forwarded) Close() error { return f.conn.Close() }

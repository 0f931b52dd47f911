package agentpod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/magpie-k8s/magpie/wire"
)

// Bounds of what is read of why a port cannot be reached, and for how long.
const (
	maxComplaint  = 4 << 10
	complaintTime = time.Second
)

// A forwarded is a pipe to the agent's port: a connection of its own with the two streams that a port-forward has. Streams that share a
// connection would wait for each other: spdystream hands frames to their readers one after the other.
type forwarded struct {
	conn  *connection
	data  httpstream.Stream
	ended chan struct{} // closed when complaint is whole
	why   string
}

// forward opens a pipe. Whether somebody listens at its end shows when it is read.
func (a *Agent) forward(ctx context.Context) (io.ReadWriteCloser, error) {
	at := a.cluster.Client().CoreV1().RESTClient().Post().Namespace(a.namespace).Resource("pods").Name(a.name).SubResource("portforward").URL()
	conn, err := upgrade(ctx, a.cluster.Config(), at, &a.old)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	data, complaints, err := openStreams(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open stream: %w", err)
	}
	f := &forwarded{conn: conn, data: data, ended: make(chan struct{})}
	go f.hear(complaints)
	return f, nil
}

// openStreams opens both at once: client-go waits a round trip for each.
func openStreams(conn httpstream.Connection) (data, complaints httpstream.Stream, err error) {
	open := func(kind string) (httpstream.Stream, error) {
		return conn.CreateStream(http.Header{
			corev1.StreamType:                 {kind},
			corev1.PortHeader:                 {strconv.Itoa(Port)},
			corev1.PortForwardRequestIDHeader: {"0"},
		})
	}
	var second error
	var both sync.WaitGroup
	both.Go(func() { complaints, second = open(corev1.StreamTypeError) })
	data, err = open(corev1.StreamTypeData)
	both.Wait()
	return data, complaints, errors.Join(err, second)
}

func (f *forwarded) hear(complaints httpstream.Stream) {
	defer close(f.ended)
	_ = complaints.Close() // we never write there
	b, _ := io.ReadAll(io.LimitReader(complaints, maxComplaint))
	f.why = strings.TrimSpace(string(b))
}

// Read tells at the end what the node said about it.
func (f *forwarded) Read(b []byte) (int, error) {
	n, err := f.data.Read(b)
	if n > 0 || err == nil {
		return n, err
	}
	select {
	case <-f.ended:
	case <-time.After(complaintTime):
		return 0, err
	}
	switch {
	case f.why == "":
		return 0, err
	case strings.Contains(f.why, "connection refused"):
		return 0, &wire.Error{Errno: syscall.ECONNREFUSED, Cause: "the agent does not listen"}
	}
	return 0, &wire.Error{Errno: syscall.ECONNRESET, Cause: "port-forward: " + f.why}
}

func (f *forwarded) Write(b []byte) (int, error) { return f.data.Write(b) }

// Close ends both directions.
func (f *forwarded) Close() error {
	return f.conn.Close()
}

package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// A Stream is a connection to the local process, or what stands for one.
type Stream interface {
	net.Conn
	CloseWrite() error
}

// A Protocol is what is spoken on a stream.
type Protocol uint8

// The protocols, both without encryption.
const (
	HTTP1 Protocol = 1 + iota
	HTTP2          // from the client's preface on
)

func (p Protocol) String() string {
	switch p {
	case HTTP1:
		return "HTTP/1"
	case HTTP2:
		return "HTTP/2"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

const (
	// maxStreams is how many requests one client connection may have under way. To a local process that speaks HTTP/1 each takes a
	// connection of its own. RFC 9113 section 6.5.2 recommends no less than 100.
	maxStreams = 100
	// idleTime is how long such a connection is kept for the next request: less than most servers keep it (Node's 5 s are the
	// shortest that are common), so that few requests meet one that is just being closed.
	idleTime = 4 * time.Second
	// streamWindow is how much of a body waits for a slow local process; all streams together have room for that much each, so
	// that none waits for another.
	streamWindow = 256 << 10
	// answerWindow is how much of an answer waits for a slow client.
	answerWindow = 1 << 20
	// maxHead bounds the head of an answer. Servers send a few KiB.
	maxHead = 256 << 10
	// maxWait100 is how long a body that waits for 100 (Continue) is kept back: then the local process gets it unasked (RFC 9110 section 10.1.1).
	maxWait100 = time.Second
)

// Adapt returns a stream on which the caller speaks one protocol, as a client, to a local process that speaks another. It opens a
// stream to the local process, so that a failure to do so is its own; later, open may be called again, from several
// goroutines at once, until the stream that Adapt returned is closed. That one the caller must close.
//
// Where the local process does not answer a request at all, the caller learns it as from the local process itself: with HTTP/1 the
// stream ends in the errno. With HTTP/2 the request is reset: REFUSED_STREAM says that it may be asked of someone else, because its
// connection was never accepted, or because its method is safe; all others are answered with 502.
func Adapt(ctx context.Context, open func(context.Context) (Stream, error), from, to Protocol) (Stream, error) {
	if from == to {
		return open(ctx)
	}
	if from+to != HTTP1+HTTP2 || from*to == 0 {
		return nil, fmt.Errorf("adapt %v to %v: no such pair", from, to)
	}
	first, err := open(ctx)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background()) // not ctx: its values are about another request
	theirs, ours := newPipe(first.LocalAddr(), first.RemoteAddr(), end)
	a := &adapter{from: from, to: to, open: open, life: life, cancel: end, end: ours, spare: first, streams: map[*conn]struct{}{}}
	ours.in.served = from == HTTP1
	a.transport = newTransport(a.dial, to)
	a.proxy = newProxy(a)
	go a.serve()
	return theirs, nil
}

// An adapter serves the requests of one stream.
type adapter struct {
	from, to  Protocol
	open      func(context.Context) (Stream, error)
	life      context.Context // as long as the stream
	cancel    context.CancelFunc
	end       *end
	transport *http.Transport
	proxy     http.Handler

	mu      sync.Mutex
	spare   Stream             // opened first, not yet used
	streams map[*conn]struct{} // in use; nil when all is over
	foreign error              // it was not in the protocol asked for
	ended   error              // in which the latest stream ended
}

func newTransport(dial func(context.Context, string, string) (net.Conn, error), to Protocol) *http.Transport {
	return &http.Transport{
		DialContext:            dial,
		Protocols:              protocols(to),
		HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerStream: answerWindow},
		DisableCompression:     true, // else bodies would change
		MaxIdleConnsPerHost:    maxStreams,
		IdleConnTimeout:        idleTime,
		MaxConnsPerHost:        maxStreams,
		MaxResponseHeaderBytes: maxHead,
		ExpectContinueTimeout:  maxWait100,
	}
}

func protocols(p Protocol) *http.Protocols {
	set := new(http.Protocols)
	set.SetHTTP1(p == HTTP1)
	set.SetUnencryptedHTTP2(p == HTTP2)
	return set
}

// serve answers the requests that come on the stream, until it ends; then nothing is left of the adapter.
func (a *adapter) serve() {
	l := &listener{conn: a.end, over: make(chan struct{})}
	if a.from == HTTP2 {
		l.conn = newFrames(a.end)
	}
	server := &http.Server{
		Handler:     a,
		Protocols:   protocols(a.from),
		BaseContext: func(net.Listener) context.Context { return a.life },
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed || s == http.StateHijacked {
				l.Close()
			}
		},
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerStream: streamWindow,
			MaxReceiveBufferPerConnection: maxStreams * streamWindow},
		DisableGeneralOptionsHandler: true, // OPTIONS * is for the local process
		ErrorLog:                     silent(),
	}
	_ = server.Serve(l)
	a.cancel()
	a.transport.CloseIdleConnections()
	a.mu.Lock()
	left, spare := a.streams, a.spare
	a.streams, a.spare = nil, nil
	a.mu.Unlock()
	for c := range left {
		_ = c.Close()
	}
	if spare != nil {
		_ = spare.Close()
	}
}

func silent() *log.Logger { return log.New(io.Discard, "", 0) }

// dial opens a stream to the local process.
func (a *adapter) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a.mu.Lock()
	s := a.spare
	a.spare = nil
	a.mu.Unlock()
	if s == nil {
		ctx, cancel := context.WithCancel(ctx) // which net/http lets outlive its request
		defer cancel()
		defer context.AfterFunc(a.life, cancel)()
		var err error
		if s, err = a.open(ctx); err != nil {
			return nil, err
		}
	}
	c := &conn{Stream: s, adapter: a}
	a.mu.Lock()
	over := a.streams == nil
	if !over {
		a.streams[c], a.ended = struct{}{}, nil
	}
	a.mu.Unlock()
	if over {
		_ = s.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// hears is told that the local process speaks something else than it was asked for.
func (a *adapter) hears(foreign error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.foreign = foreign
}

// babel returns an error if the local process speaks something else than it was asked for.
func (a *adapter) babel() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.foreign
}

// ends is told in what a stream ended.
func (a *adapter) ends(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = err
}

// why returns the best that is known about a request that was not answered: err may only say that its connection is gone.
func (a *adapter) why(err error) syscall.Errno {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.from == HTTP1 { // the latest stream was its
		err = errors.Join(err, a.ended)
	}
	for _, errno := range neverWas {
		if errors.Is(err, errno) {
			return errno
		}
	}
	return syscall.ECONNRESET
}

// neverWas are the errnos that only a connection can yield that never was.
var neverWas = []syscall.Errno{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH}

// forget takes a stream that was closed out of the books.
func (a *adapter) forget(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.streams, c)
}

// A listener accepts one connection, and waits until that is over.
type listener struct {
	mu   sync.Mutex
	conn net.Conn // nil: accepted
	once sync.Once
	over chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.over
	return nil, net.ErrClosed
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.over) })
	return nil
}

func (l *listener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

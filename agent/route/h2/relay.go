package h2

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/magpie-k8s/magpie/filters"
)

// A Conn is a connection with the bytes that were read from it and not discarded yet. It has room for 64 KiB of them. One
// goroutine reads it, one at a time writes.
type Conn interface {
	io.WriteCloser
	Fill() error // waits for bytes; may return without any
	Bytes() []byte
	Discard(n int)
	CloseWrite()
	Reset()
}

// A Local is the local process of a session. It is comparable: requests for the same one share a connection.
type Local interface {
	Session() string
	Open(ctx context.Context) (Conn, error)
	Gone() bool // the session has taken its claim back
}

// An Exchange is one request with its answer.
type Exchange struct {
	Session  string // who answered; empty: the original
	Lost     string // the session that was to answer and could not
	Method   string
	Path     string
	Status   int
	Duration time.Duration
}

// Config is what a Relay needs to know.
type Config struct {
	// Choose returns whom a request belongs to; nil means that it passes. It reports true if that depends on the body. Then it is
	// asked again, with the body or with final set: the body will not be known.
	Choose func(r *filters.Request, final bool) (whom Local, undecided bool)

	Retired  func() bool // the port was given up: the connection is to end between requests
	Observed func() bool // somebody listens to Observe
	Observe  func(Exchange)
}

// A Relay is one client connection that speaks HTTP/2.
type Relay struct {
	config   Config
	client   Conn
	original Conn

	toClient, toOriginal *outbox

	requests requests // the client's side being read
	answers  answers  // the original's

	raw atomic.Bool // bytes both ways from now on; nobody looks

	mu sync.Mutex
	books
}

// New returns a Relay between a client and the original.
func New(config Config, client, original Conn) *Relay {
	r := &Relay{config: config, client: client, original: original}
	r.toClient, r.toOriginal = newOutbox(client), newOutbox(original)
	r.toClient.inside = true // Settings come first, and they are the original's.
	r.requests.init(r)
	r.answers.init(r)
	r.books.init()
	r.over = make(chan struct{})
	r.said, r.takes = maxWindow, maxWindow
	r.change.L = &r.mu
	return r
}

// Upgraded is called before all else when the connection began as HTTP/1, with a request that the original answers as stream 1. The
// client's first settings came with it.
func (r *Relay) Upgraded(settings []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lockedClient(settings)
	r.lockedOriginalAcks()
	s := r.lockedAdd(1)
	s.asked = true
	r.passed = 1
}

package route

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/magpie-k8s/magpie/filters"
)

// A Stream is a connection to the local process of a session.
type Stream interface {
	net.Conn
	CloseWrite() error
}

// A Protocol is what is spoken on a stream.
type Protocol uint8

// The protocols.
const (
	Raw   Protocol = iota // anything: nobody looked
	HTTP1                 // requests as in RFC 9112
	HTTP2                 // frames as in RFC 9113, from the client's preface on
)

// A Visit is what a stream to a local process is opened for.
type Visit struct {
	Client, Local netip.AddrPort       // who connected, and what it dialled
	Protocol      Protocol             // that we shall speak
	TLS           *tls.ConnectionState // what client and agent agreed on; nil: the connection is not encrypted
}

// A Claim is a session's wish for the requests, or the connections, of one port.
type Claim struct {
	Session string

	// Filter chooses requests; nil claims whole connections of any protocol.
	Filter *filters.Filter

	// Open connects to the local process for one client connection. It may return before the local process has accepted;
	// the first Read of the stream then yields the errno. The stream is closed by us.
	Open func(ctx context.Context, v Visit) (Stream, error)

	// Sealed, if not nil, is told of each connection that a filter cannot look into, because it is TLS. It must not block.
	Sealed func()

	// Observe, if not nil, is told of every exchange on the port, whoever answered. It must not block.
	Observe func(Exchange)
}

// A Port holds the claims of one port in the order in which they are asked: filtered before unfiltered, older before newer.
// The zero value has none. Safe for concurrent use.
type Port struct {
	mu     sync.Mutex
	claims []*claim

	none    order
	order   atomic.Pointer[order]
	vacated atomic.Int64 // when the last claim went, in Unix nanoseconds; 0 while there is one, or never was
}

// A claim is a Claim that may have been removed.
type claim struct {
	*Claim
	gone atomic.Bool
}

// An order is what a request sees of the claims. It is never changed.
type order struct {
	filtered  []*claim
	whole     []*claim
	observers []func(Exchange)
}

// Add makes c the newest claim. Connections that are open see it at their next request, if it has a filter; an unfiltered one
// gets connections accepted from now on. remove takes it back: requests in flight finish. It is safe to call twice.
func (p *Port) Add(c *Claim) (remove func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	added := &claim{Claim: c}
	p.claims = append(p.claims, added)
	p.lockedPublish()
	return func() { p.remove(added) }
}

func (p *Port) remove(c *claim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.gone.Swap(true) {
		return
	}
	kept := p.claims[:0:0]
	for _, other := range p.claims {
		if other != c {
			kept = append(kept, other)
		}
	}
	p.claims = kept
	p.lockedPublish()
}

func (p *Port) lockedPublish() {
	next := &order{}
	for _, c := range p.claims {
		if c.Filter != nil {
			next.filtered = append(next.filtered, c)
		} else {
			next.whole = append(next.whole, c)
		}
		if c.Observe != nil {
			next.observers = append(next.observers, c.Observe)
		}
	}
	p.order.Store(next)
	if len(p.claims) > 0 {
		p.vacated.Store(0)
	} else {
		p.vacated.Store(time.Now().UnixNano())
	}
}

// now returns the claims as they are; never nil.
func (p *Port) now() *order {
	if o := p.order.Load(); o != nil {
		return o
	}
	return &p.none
}

// retired reports whether the port has been without claims for as long as linger. It costs a load while there are claims.
func (p *Port) retired(linger time.Duration) bool {
	since := p.vacated.Load()
	return since != 0 && time.Now().UnixNano()-since >= int64(linger)
}

// first returns the claim whose filter wants the request.
func (o *order) first(r *filters.Request) *claim {
	for _, c := range o.filtered {
		if c.Filter.Matches(r) {
			return c
		}
	}
	return nil
}

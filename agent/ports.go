package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/agent/route"
	"github.com/magpie-k8s/magpie/agent/steal"
	"github.com/magpie-k8s/magpie/agent/target"
	"github.com/magpie-k8s/magpie/filters"
)

// ports are the claimed ports of the target: who holds what, the redirection that brings their connections here,
// and the router that decides who answers. Safe for concurrent use.
type ports struct {
	target   *target.Target
	redirect *steal.Redirect
	proxy    *route.Proxy

	shaking atomic.Int64 // connections whose TLS has just begun

	mu   sync.Mutex
	held map[uint16]*port
	conn sync.WaitGroup // connections that are served
}

// newPorts returns the ports of a target; without a redirection none can be claimed.
func newPorts(t *target.Target, redirect *steal.Redirect, linger time.Duration) *ports {
	p := &ports{target: t, redirect: redirect, held: map[uint16]*port{}}
	p.proxy = route.New(route.Config{DialOriginal: p.dialOriginal, Linger: linger, IsTLS: isTLS})
	return p
}

// port is one claimed port, or one that was claimed while connections of it live on.
type port struct {
	route    route.Port
	holdings []*holding
}

// A conflict is the refusal of a claim: another session holds requests that it wants.
type conflict struct{ held *holding }

func (c *conflict) Error() string {
	what := "every connection"
	if c.held.filter != nil {
		what = "requests with " + c.held.text()
	}
	return fmt.Sprintf("port %d: %s takes %s since %s", c.held.port, c.held.session.name, what, c.held.since.Format(time.TimeOnly))
}

// add books the holding. With the first one of a port its new connections come to us: books and kernel change in one step,
// or a session that ends in between would leave the port taken by nobody.
func (p *ports) add(h *holding) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.gone {
		return fmt.Errorf("claim port %d: %w", h.port, syscall.ESTALE)
	}
	at := p.lockedPort(h.port)
	for _, other := range at.holdings {
		if wantSame(other.filter, h.filter) {
			return &conflict{other}
		}
	}
	if err := at.lockedAgree(h); err != nil {
		return err
	}
	h.since = time.Now()
	h.life, h.end = context.WithCancel(context.Background())
	h.remove = at.route.Add(h.claim())
	at.holdings = append(at.holdings, h)
	if len(at.holdings) > 1 {
		return nil
	}
	if err := p.redirect.Claim(h.port); err != nil {
		return errors.Join(err, p.lockedRelease(h))
	}
	return nil
}

// wantSame reports whether two claims of a port want the same requests. A filtered and an unfiltered one do not:
// the filtered one is asked first.
func wantSame(a, b *filters.Filter) bool {
	if a == nil || b == nil {
		return a == b
	}
	return filters.Overlap(a, b)
}

// release takes a holding back. With the last one of a port its new connections go to the original at once, and
// those that pass through us are let go in time.
func (p *ports) release(h *holding) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lockedRelease(h)
}

func (p *ports) lockedRelease(h *holding) error {
	h.gone = true
	at := p.held[h.port]
	if at == nil || !slices.Contains(at.holdings, h) {
		return nil
	}
	h.end()
	at.holdings = slices.DeleteFunc(at.holdings, func(o *holding) bool { return o == h })
	if len(at.holdings) > 0 {
		h.remove()
		return nil
	}
	// First no more connections, then nobody to ask: one that arrives in between passes.
	err := p.redirect.Release(h.port)
	h.remove()
	return err
}

// accept serves connections of claimed ports until the redirection is closed or, without one, the context ends.
func (p *ports) accept(ctx context.Context) error {
	defer p.conn.Wait()
	if p.redirect == nil {
		<-ctx.Done()
		return nil
	}
	for {
		c, err := p.redirect.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		p.conn.Go(func() { p.serve(ctx, c) })
	}
}

func (p *ports) serve(ctx context.Context, c *net.TCPConn) {
	defer c.Close()
	at, tls := p.routes(c.LocalAddr().(*net.TCPAddr).AddrPort().Port())
	if tls != nil {
		p.shakeHands(ctx, c, at, tls)
		return
	}
	p.proxy.Serve(ctx, c, &at.route)
}

// routes returns who holds a port, perhaps nobody: its last holder may just have gone; and how they end TLS there, nil: they do not.
func (p *ports) routes(number uint16) (*port, *encryption) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.lockedPort(number)
	return at, at.lockedEncryption()
}

// lockedPort is the port's book, which is opened when it is first asked for.
func (p *ports) lockedPort(number uint16) *port {
	at := p.held[number]
	if at == nil {
		at = &port{}
		p.held[number] = at
	}
	return at
}

// dialOriginal is how the router reaches the original.
func (p *ports) dialOriginal(ctx context.Context, client, local netip.AddrPort) (net.Conn, error) {
	return p.redirect.DialOriginal(ctx, client, local)
}

// connections counts those that are served now.
func (p *ports) connections() int { return p.proxy.Connections() + int(p.shaking.Load()) }

// unending counts those that nobody can bring to an end in peace: see route.Proxy.
func (p *ports) unending(ctx context.Context, patience time.Duration) int {
	return p.proxy.Held(ctx, patience)
}

// yield lets another agent take our place while connections pass through us: nothing new comes.
func (p *ports) yield() error {
	if p.redirect == nil {
		return nil
	}
	return p.redirect.Yield()
}

// stop ends the redirection: new connections reach the original, and accept returns once those that it serves have
// ended. It is safe to call twice.
func (p *ports) stop() error {
	if p.redirect == nil {
		return nil
	}
	return p.redirect.Close()
}

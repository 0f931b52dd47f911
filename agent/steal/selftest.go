package steal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/bpf"
)

// selfTestPatience is long for a connection over loopback, and short for one who waits for `ready`.
const selfTestPatience = time.Second

// errPast says that a connection of ours reached someone else.
var errPast = errors.New("the connection did not come to us")

// SelfTest proves that a claimed port is ours: it connects to it inside the namespace, on each address family that lo has, and expects to meet itself.
// Neither the original nor Accept's caller notices, unless the original gets the connection, and then SelfTest fails.
func (r *Redirect) SelfTest(ctx context.Context, port uint16) error {
	ctx, cancel := context.WithTimeoutCause(ctx, selfTestPatience, errPast)
	defer cancel()
	for _, l := range r.listeners {
		to := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if l.family == bpf.IPv6 {
			to = netip.IPv6Loopback()
		}
		if err := r.prove(ctx, netip.AddrPortFrom(to, port)); err != nil {
			return fmt.Errorf("self-test of port %d: connect to %s: %w", port, to, err)
		}
	}
	return nil
}

func (r *Redirect) prove(ctx context.Context, to netip.AddrPort) (err error) {
	met := make(chan struct{})
	defer r.probes.drop(met)
	expect := func(src netip.AddrPort) error {
		r.probes.add(src, met)
		return nil
	}
	c, src, err := r.dial(ctx, to, to.Addr().Is4(), expect)
	switch {
	case isClosed(met):
		// Accept's side may have reset it before we knew that it was there: no error then.
	case to.Addr().Is6() && errors.Is(err, unix.EADDRNOTAVAIL):
		return nil // lo has no ::1: nobody can call us there
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w: %w", errPast, err)
	case err != nil:
		return err
	}
	if c != nil {
		defer func() {
			reset(c)
			err = errors.Join(err, r.sources.release(src, false))
		}()
	}
	select {
	case <-met:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// probes are the connections that self-tests make, by their source. The zero value is ready, and safe for concurrent use.
type probes struct {
	mu      sync.Mutex
	sources map[netip.AddrPort]chan struct{}
}

func (p *probes) add(src netip.AddrPort, met chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sources == nil {
		p.sources = make(map[netip.AddrPort]chan struct{})
	}
	p.sources[src] = met
}

// arrived reports whether the connection from src is a probe, and tells who waits for it.
func (p *probes) arrived(src netip.AddrPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	met, ok := p.sources[src]
	if ok {
		delete(p.sources, src)
		close(met)
	}
	return ok
}

func (p *probes) drop(met chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.sources, func(_ netip.AddrPort, ch chan struct{}) bool { return ch == met })
}

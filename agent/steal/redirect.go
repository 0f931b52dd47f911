// Package steal takes new connections to claimed ports of a target before the original sees them, and reaches the original past itself. It never
// touches a connection that exists already, and nothing it does to the kernel outlives the process.
package steal

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/magpie-k8s/magpie/bpf"
	"github.com/magpie-k8s/magpie/internal/netns"
)

// Config holds what may be left out.
type Config struct {
	Logger *slog.Logger // nil: say nothing
}

// Redirect steers the new connections of one network namespace. There can be one per namespace.
// It is safe for concurrent use.
type Redirect struct {
	ns        *netns.NS
	log       *slog.Logger
	steal     *bpf.Steal
	noRestore error // why the original sees our address instead of the client's; nil when it does not

	guard     *guard
	listeners []*listener
	accepted  chan *net.TCPConn
	sources   *sources
	probes    probes
	zones     zones

	mu      sync.Mutex
	claims  map[uint16]bool
	yielded bool
	closed  bool

	done    chan struct{}
	running sync.WaitGroup
	close   sync.Once
}

// Open stands ready in the target's namespace; no port is claimed yet. The cgroup is the path of the target's cgroup v2, so that the original sees its
// clients' addresses on passed connections; "" does without. The caller keeps ns open until after Close.
// It fails with bpf.ErrTaken when another agent is there already, and goes on to be.
func Open(ns *netns.NS, cgroup string, cfg Config) (_ *Redirect, err error) {
	r := &Redirect{
		ns:       ns,
		log:      cfg.Logger,
		accepted: make(chan *net.TCPConn),
		claims:   make(map[uint16]bool),
		done:     make(chan struct{}),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("steal in %s: %w", ns, errors.Join(err, r.Close()))
		}
	}()
	if r.guard, err = takeGuard(ns); err != nil {
		return nil, err
	}
	if err := r.load(cgroup); err != nil {
		return nil, err
	}
	if r.sources, err = newSources(ns, r.steal); err != nil {
		return nil, err
	}
	if err := r.listen(); err != nil {
		return nil, err
	}
	if err := r.steal.Beat(); err != nil {
		return nil, err
	}
	r.start()
	// Attached for good: the program passes what is not claimed, and to learn now that it cannot be attached is better than at the first claim.
	if err := r.steal.AttachNetns(ns.Fd()); err != nil {
		return nil, err
	}
	return r, nil
}

// load also decides whether addresses are restored. That they are not is no reason to give up: see NoRestore.
func (r *Redirect) load(cgroup string) (err error) {
	cookie, cookieErr := r.ns.Cookie()
	if r.steal, err = bpf.OpenSteal(cookie); err != nil {
		return err
	}
	switch {
	case cgroup == "":
		r.noRestore = errors.New("no cgroup v2 of the target is known")
	case cookieErr != nil:
		r.noRestore = cookieErr
	default:
		r.noRestore = r.steal.AttachCgroup(cgroup)
	}
	return nil
}

func (r *Redirect) listen() error {
	for _, family := range []bpf.Family{bpf.IPv4, bpf.IPv6} {
		l, err := openListener(r.ns, family)
		if errors.Is(err, errNoFamily) {
			continue
		} else if err != nil {
			return err
		}
		r.listeners = append(r.listeners, l)
		if err := l.offer(r.steal); err != nil {
			return err
		}
	}
	return nil
}

func (r *Redirect) start() {
	r.running.Go(r.runHeartbeat)
	r.running.Go(r.runForget)
	for _, l := range r.listeners {
		r.running.Go(func() { r.runAccept(l) })
	}
}

// RestoresPeer reports whether the original sees the client's address on passed connections. NoRestore says why not.
func (r *Redirect) RestoresPeer() bool { return r.noRestore == nil }

// NoRestore says why the original does not see the clients' addresses; nil when it does.
func (r *Redirect) NoRestore() error { return r.noRestore }

// Claim takes all new connections to the port from now on. Claiming a port twice is an error: its claims are counted elsewhere.
func (r *Redirect) Claim(port uint16) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.yielded {
		return fmt.Errorf("steal port %d: %w", port, net.ErrClosed)
	}
	if r.claims[port] {
		return fmt.Errorf("steal port %d: claimed already", port)
	}
	if err := r.steal.Claim(port); err != nil {
		return fmt.Errorf("steal port %d: %w", port, err)
	}
	r.claims[port] = true
	return nil
}

// Release lets all new connections to the port go to the original again. Connections that wait to be accepted still come out of Accept; those that
// were accepted or passed go on.
func (r *Redirect) Release(port uint16) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || !r.claims[port] {
		return nil
	}
	if err := r.steal.Release(port); err != nil {
		return fmt.Errorf("release port %d: %w", port, err)
	}
	delete(r.claims, port)
	return nil
}

func (r *Redirect) claimed(port uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.claims[port]
}

// Yield lets all new connections go to the original, and another agent take this place. Connections that wait to be accepted still come out of Accept; those
// from Accept and DialOriginal go on, and the original sees whom they are for. Nothing can be claimed any more. It is safe to call twice.
func (r *Redirect) Yield() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.yielded || r.closed {
		return nil
	}
	r.yielded = true
	return errors.Join(r.steal.DetachNetns(), r.guard.Close()) // the original's from here
}

// Close lets all new connections go to the original and unblocks Accept. What nobody has accepted yet is reset: to lose none, release first, and
// accept until nothing comes. Connections from Accept and DialOriginal go on, but the original no longer sees whom they are for. It is safe to call twice.
func (r *Redirect) Close() error {
	var err error
	r.close.Do(func() {
		r.mu.Lock()
		if r.steal != nil {
			err = r.steal.Detach() // the original's from here
		}
		r.mu.Unlock()
		err = errors.Join(err, r.guard.Close())
		close(r.done)
		for _, l := range r.listeners {
			err = errors.Join(err, l.Close())
		}
		r.running.Wait()
		if r.sources != nil {
			r.sources.close()
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closed = true
		if r.steal != nil {
			err = errors.Join(err, r.steal.Close())
		}
	})
	return err
}

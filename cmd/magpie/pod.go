package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/magpie-k8s/magpie/client"
	"github.com/magpie-k8s/magpie/client/config"
	"github.com/magpie-k8s/magpie/layer"
)

// pod joins the layer with the session: it is what the layer needs, said in the client's words.
type pod struct {
	session  *client.Session
	settings config.Config
	wish     client.Wish
	steal    bool // else no port is claimed
	steps    *steps
	target   string
	command  string

	claims atomic.Int64 // made, ever
	told   sync.Once    // that no port is claimed
}

// Dial connects from inside the target.
func (p *pod) Dial(ctx context.Context, network string, to netip.AddrPort) (layer.Conn, error) {
	return p.session.Dial(ctx, network, to)
}

// Listen claims the port and says so: the user waits for this line.
func (p *pod) Listen(ctx context.Context, port uint16) (layer.Listener, error) {
	if !p.steal {
		p.told.Do(func() { p.steps.unclaimed(p, port) })
		return &unclaimed{over: make(chan struct{})}, nil
	}
	wish := p.wish
	wish.LikelyTLS = p.session.LikelyTLS(port)
	wish.Encryption = encryption(p.settings.ForPort(port))
	claim, err := p.session.Claim(ctx, port, wish)
	if err != nil {
		p.steps.refused(err)
		return nil, errnoOf(err)
	}
	p.claims.Add(1)
	p.steps.ready(p, claim)
	if declared := p.session.Ports(); len(declared) > 0 && !slices.Contains(declared, port) {
		p.steps.undeclared(p.target, port, declared)
	}
	return listener{claim}, nil
}

// listener is a claim as the layer knows it.
type listener struct{ *client.Claim }

func (l listener) Accept() (layer.Conn, error) {
	in, err := l.Claim.Accept()
	if err != nil {
		return nil, err
	}
	if in.Encrypted() {
		return l.Claim.Encrypt(in), nil
	}
	return &incoming{Incoming: in}, nil
}

// unclaimed is the listener of a port that stays on this machine: nothing ever comes from the target.
type unclaimed struct {
	over chan struct{}
	once sync.Once
}

func (u *unclaimed) Accept() (layer.Conn, error) {
	<-u.over
	return nil, net.ErrClosed
}

func (u *unclaimed) Close() error {
	u.once.Do(func() { close(u.over) })
	return nil
}

// incoming is a connection that came for the local process. The layer uses it once the process has it, which is what
// the agent waits to hear; before that it may only be refused.
type incoming struct {
	client.Incoming
	once sync.Once // for the one answer: accepted or refused
	err  error
}

func (i *incoming) accepted() error {
	i.once.Do(func() { i.err = i.Accepted() })
	return i.err
}

func (i *incoming) Read(b []byte) (int, error) {
	if err := i.accepted(); err != nil {
		return 0, err
	}
	return i.Incoming.Read(b)
}

func (i *incoming) Write(b []byte) (int, error) {
	if err := i.accepted(); err != nil {
		return 0, err
	}
	return i.Incoming.Write(b)
}

func (i *incoming) WriteTo(w io.Writer) (int64, error) {
	if err := i.accepted(); err != nil {
		return 0, err
	}
	return i.Incoming.WriteTo(w)
}

func (i *incoming) CloseWrite() error {
	if err := i.accepted(); err != nil {
		return err
	}
	return i.Incoming.CloseWrite()
}

// Refuse gives the connection back: the request goes to the original. Once the process had the connection it may have
// acted on it: then it breaks.
func (i *incoming) Refuse(why syscall.Errno) { _ = i.Stream.Refuse(why) }

// errnoOf returns what listen(2) shall say. A port that another session holds is in use.
func errnoOf(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.EADDRINUSE
}

// where names the target and on how many replicas the session stands, where there can be several.
func (p *pod) where() string {
	if n := p.session.Replicas(); n > 1 {
		return fmt.Sprintf("%s (%d replicas)", p.target, n)
	}
	return p.target
}

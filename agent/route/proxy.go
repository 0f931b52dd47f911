package route

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// defaultLinger is how long passed connections may go on after the last claim of their port has gone.
const defaultLinger = 60 * time.Second

// Config is what a Proxy needs to know.
type Config struct {
	// DialOriginal connects to the original for a client that dialled local. Required.
	DialOriginal func(ctx context.Context, client, local netip.AddrPort) (net.Conn, error)

	// Linger is how long after the last claim of a port its passed connections go on before each is closed between two
	// requests. Zero means 60 s; negative means at the next answer.
	Linger time.Duration

	// IsTLS reports whether a client's first bytes begin TLS, so that sessions can be told; see Claim.Sealed. Nil: nobody looks.
	IsTLS func(first []byte) bool
}

// A Proxy serves client connections. Safe for concurrent use.
type Proxy struct {
	config Config
	memory memory

	mu    sync.Mutex
	conns map[*conn]struct{} // that are served
}

// New returns a Proxy that serves by config.
func New(config Config) *Proxy {
	if config.Linger == 0 {
		config.Linger = defaultLinger
	}
	return &Proxy{config: config, conns: map[*conn]struct{}{}}
}

// Connections returns how many client connections are being served.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Serve lets the claims of port and the original answer on client, and closes it. It returns when the connection is finished,
// or soon after ctx is done, which resets it.
func (p *Proxy) Serve(ctx context.Context, client net.Conn, port *Port) {
	p.serve(ctx, newConn(p, client, port))
}

// ServeWith is Serve for a client whose way to the original is its own: a *tls.Conn, whose original wants TLS too. dial may be
// called more than once.
func (p *Proxy) ServeWith(ctx context.Context, client net.Conn, port *Port, dial func(ctx context.Context) (net.Conn, error)) {
	c := newConn(p, client, port)
	c.dialOriginal = dial
	p.serve(ctx, c)
}

func (p *Proxy) serve(ctx context.Context, c *conn) {
	ctx, cancel := context.WithCancel(ctx)
	p.enter(c)
	defer p.exit(c)
	stop := context.AfterFunc(ctx, c.abort)
	c.serve(ctx)
	stop()
	cancel()
	c.close()
}

func (p *Proxy) enter(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = struct{}{}
}

func (p *Proxy) exit(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// addrPort returns the address of a TCP connection, or the zero AddrPort.
func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

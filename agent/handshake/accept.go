package handshake

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a client may take to say its hello. Then the original has it: it may be a server that speaks first, or one that
// waits longer.
const patience = 10 * time.Second

// A Kind is what became of a connection.
type Kind uint8

const (
	// Plain is no TLS, or nobody spoke in time.
	Plain Kind = iota
	// Raw is TLS that passes whole: Result.Why says why.
	Raw
	// Ended is TLS that ends here: Result.Client yields what is inside.
	Ended
)

// A Result is a connection to be served further. Whoever got it closes Client, and then the Result.
type Result struct {
	Kind Kind
	// Client is a *Conn when the TLS ended; else all bytes are still to be read from it.
	Client net.Conn
	// Why a connection is raw. An *Error is for the developer to know, once; anything else is the client's own wish, or the original's.
	Why error

	redial Dialer
	mu     sync.Mutex
	ready  *Conn // the original, until it is dialled
	failed error // of the first dial, until it is told
}

// Dial returns the connection to the original that goes with the client's: in TLS with the same protocol, if the client's TLS ended. The first is there
// already; later ones are made. Safe for concurrent use.
func (r *Result) Dial(ctx context.Context) (net.Conn, error) {
	r.mu.Lock()
	ready, failed := r.ready, r.failed
	r.ready, r.failed = nil, nil
	r.mu.Unlock()
	switch {
	case ready != nil:
		return ready, nil
	case failed != nil:
		return nil, failed
	}
	return r.redial(ctx)
}

// Close lets go of what was not dialled.
func (r *Result) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ready == nil {
		return nil
	}
	err := r.ready.Close()
	r.ready = nil
	return err
}

// Accept takes a client's first bytes and decides. On an error the client could not be served, and is closed: it was told the reason where TLS has
// a word for it.
func (p *Port) Accept(ctx context.Context, client net.Conn, dial Dialer) (*Result, error) {
	m, err := p.current()
	if err != nil {
		return &Result{Kind: Raw, Client: client, Why: err, redial: dial}, nil
	}
	v := &visit{port: p, m: m, dial: dial, tap: &tap{line: line{Conn: client}}}
	v.tap.decide = v.decide
	_ = client.SetDeadline(time.Now().Add(patience))
	inside := tls.Server(v.tap, m.server)
	err = inside.HandshakeContext(ctx)
	switch {
	case ctx.Err() != nil:
		v.abandon()
		return nil, ctx.Err()
	case !v.tap.passed:
		return v.pass(err), nil
	case err != nil:
		v.abandon()
		return nil, fmt.Errorf("TLS with the client: %w", err)
	}
	_ = client.SetDeadline(time.Time{})
	return v.end(inside), nil
}

// A visit is a client that shakes hands.
type visit struct {
	port     *Port
	m        *material
	dial     Dialer
	tap      *tap
	hello    hello
	original *Conn
	refused  error // of the dial to the original
	why      error // it passes
}

func (v *visit) abandon() {
	v.tap.Close()
	if v.original != nil {
		v.original.Close()
	}
}

// pass gives the client to the original as it came.
func (v *visit) pass(err error) *Result {
	r := &Result{Kind: Raw, Client: v.tap.whole(), Why: v.why, redial: v.dial}
	if begins, _ := Looks(v.tap.head); !begins {
		r.Kind = Plain
	} else if r.Why == nil {
		r.Why = fmt.Errorf("the hello is not understood: %w", err)
	}
	return r
}

// end is for a client whose TLS ended here.
func (v *visit) end(inside *tls.Conn) *Result {
	c := &Conn{tls: inside, line: &v.tap.line}
	again := v.hello
	again.protocols = agreed(inside.ConnectionState().NegotiatedProtocol)
	r := &Result{Kind: Ended, Client: c, ready: v.original, failed: v.refused, redial: func(ctx context.Context) (net.Conn, error) {
		original, err := v.reach(ctx, again)
		if err != nil {
			return nil, err
		}
		return original, original.pair(c)
	}}
	if v.original != nil {
		_ = v.original.pair(c)
	}
	return r
}

func agreed(protocol string) []string {
	if protocol == "" {
		return nil
	}
	return []string{protocol}
}

// pair tells the two sides of the agent of each other, which speak the same protocol.
func (c *Conn) pair(client *Conn) error {
	if got, want := c.ConnectionState().NegotiatedProtocol, client.ConnectionState().NegotiatedProtocol; got != want {
		c.Close()
		return fmt.Errorf("the original speaks %q now and %q before: %w", got, want, syscall.ECONNRESET)
	}
	c.other.Store(client)
	client.other.Store(c)
	return nil
}

// reach dials the original and shakes hands as for the client.
func (v *visit) reach(ctx context.Context, h hello) (*Conn, error) {
	conn, err := v.dial(ctx)
	if err != nil {
		return nil, err
	}
	a := &approach{config: &v.port.config, m: v.m}
	c, err := a.shake(ctx, conn, h)
	if err != nil {
		return nil, a.explain(err)
	}
	return c, nil
}

// decide is called with the client's hello. On an error the client passes whole.
func (v *visit) decide(chi *tls.ClientHelloInfo) (*tls.Config, error) {
	_ = v.tap.SetDeadline(time.Time{})
	config, err := v.stand(chi)
	if err != nil {
		v.why = err
		if v.original != nil {
			v.original.Close()
		}
		return nil, err
	}
	// The client's TLS is ours after this.
	v.tap.pass()
	_ = v.tap.SetDeadline(time.Now().Add(shaking))
	return config, nil
}

// stand is how we answer in the original's place.
func (v *visit) stand(chi *tls.ClientHelloInfo) (_ *tls.Config, err error) {
	if v.hello, err = heed(chi); err != nil {
		return nil, err
	}
	if err := takes(chi, &v.m.own, 0); err != nil {
		return nil, err
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{v.m.own}, MinVersion: v.hello.min, MaxVersion: v.hello.max, CipherSuites: ciphers,
		ClientAuth: v.port.config.auth(), ClientCAs: v.m.clientCAs,
	}
	conn, err := v.dial(chi.Context())
	if err != nil {
		// A session may still answer, as it does without TLS.
		v.refused = err
		config.NextProtos = v.port.guess(v.hello.protocols)
		return config, nil
	}
	return config, v.follow(chi, conn, config)
}

// follow makes our answer that of the original.
func (v *visit) follow(chi *tls.ClientHelloInfo, conn net.Conn, config *tls.Config) (err error) {
	a := &approach{config: &v.port.config, m: v.m}
	if v.original, err = a.shake(chi.Context(), conn, v.hello); err != nil {
		return a.explain(err)
	}
	state := v.original.ConnectionState()
	if err := a.likeness(&v.m.own, state); err != nil {
		return err
	}
	if err := takes(chi, &v.m.own, state.Version); err != nil {
		return err
	}
	v.port.answers.Store(strings.Join(v.hello.protocols, " "), state.NegotiatedProtocol)
	config.MinVersion, config.MaxVersion = state.Version, state.Version
	if bytes.Equal(state.PeerCertificates[0].Raw, v.m.own.Leaf.Raw) { // then what fits its key fits ours
		config.CipherSuites = []uint16{state.CipherSuite} // of TLS 1.3 it is ours to pick
		config.Certificates[0].OCSPStaple, config.Certificates[0].SignedCertificateTimestamps = state.OCSPResponse, state.SignedCertificateTimestamps
	}
	config.NextProtos = agreed(state.NegotiatedProtocol)
	return nil
}

// guess is what the original would have picked, or else what the client likes best.
func (p *Port) guess(offered []string) []string {
	if picked, ok := p.answers.Load(strings.Join(offered, " ")); ok {
		return agreed(picked.(string))
	}
	return offered[:min(len(offered), 1)]
}

// Try shakes hands with the original as for a client that asks for nothing special, and says why connections could not be looked into: an *Error with
// a hint, which is to be told and refuses nothing. An original that is not there is no error.
func (p *Port) Try(ctx context.Context, dial Dialer) error {
	m, err := p.current()
	if err != nil {
		return err
	}
	conn, err := dial(ctx)
	if err != nil {
		return nil
	}
	h := hello{protocols: []string{protocolHTTP2, protocolHTTP1}, min: tls.VersionTLS10, max: tls.VersionTLS13, ciphers: ciphers}
	if len(m.own.Leaf.DNSNames) > 0 && !strings.HasPrefix(m.own.Leaf.DNSNames[0], "*") {
		h.name = m.own.Leaf.DNSNames[0]
	}
	a := &approach{config: &p.config, m: m}
	original, err := a.shake(ctx, conn, h)
	if err != nil {
		return a.explain(err)
	}
	defer original.Close()
	return a.likeness(&m.own, original.ConnectionState())
}

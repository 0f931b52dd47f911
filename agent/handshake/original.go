package handshake

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// shaking bounds a handshake, on either side. Servers give clients as much and more.
	shaking = 10 * time.Second
	// settling is how long the original may take to refuse a certificate in TLS 1.3, where it says so after the handshake. It is
	// in the same pod; and once it has taken one, nobody waits.
	settling = 100 * time.Millisecond
	// sip is one read, and the end of the bound.
	sip = 2
)

// A Dialer connects to the original, without TLS.
type Dialer func(ctx context.Context) (net.Conn, error)

// errAsked is for an original that wants to see a certificate, when there is none.
var errAsked = errors.New("it asks clients for a certificate")

// An approach is a handshake with the original on behalf of a client.
type approach struct {
	config *Config
	m      *material
	asked  bool // for a certificate
}

// shake makes TLS of a connection to the original, or closes it.
func (a *approach) shake(ctx context.Context, conn net.Conn, h hello) (*Conn, error) {
	c := &Conn{line: &line{Conn: conn}}
	c.tls = tls.Client(c.line, a.tls(h))
	ctx, cancel := context.WithTimeout(ctx, shaking)
	defer cancel()
	err := c.tls.HandshakeContext(ctx)
	if err == nil {
		err = a.settle(c)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	c.alarm = a.alarm
	return c, nil
}

func (a *approach) tls(h hello) *tls.Config {
	return &tls.Config{
		ServerName: h.name, NextProtos: h.protocols, MinVersion: h.min, MaxVersion: h.max, CipherSuites: h.ciphers,
		// It is in the pod itself, reached over the pod's own loopback or address. Who asks for more says by whom.
		InsecureSkipVerify: true, //nolint:gosec // see verify
		VerifyConnection:   a.verify,
		ClientSessionCache: alike{a.m.sessions, fmt.Sprint(h.min, h.max, h.protocols, h.ciphers)},
		// As clients of old do. An original that renegotiates may want to see a certificate then.
		Renegotiation:        tls.RenegotiateFreelyAsClient,
		GetClientCertificate: a.certificate,
	}
}

// alike keeps the sessions of clients apart that ask for different things: a session that is resumed is as it was.
type alike struct {
	tls.ClientSessionCache
	asks string
}

func (s alike) Get(key string) (*tls.ClientSessionState, bool) {
	return s.ClientSessionCache.Get(key + " " + s.asks)
}

func (s alike) Put(key string, session *tls.ClientSessionState) {
	s.ClientSessionCache.Put(key+" "+s.asks, session)
}

func (a *approach) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	a.asked = true
	switch {
	case a.m.original != nil:
		return a.m.original, nil
	case a.config.Anonymous:
		return &tls.Certificate{}, nil
	}
	return nil, errAsked
}

// untrusted is why the original is not who it should be.
type untrusted struct{ error }

func (u untrusted) Unwrap() error { return u.error }

func (a *approach) verify(state tls.ConnectionState) error {
	if a.m.originalCAs == nil {
		return nil
	}
	chain := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		chain.AddCert(c)
	}
	name := a.config.OriginalName
	if name == "" {
		name = state.ServerName
	}
	if _, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: a.m.originalCAs, Intermediates: chain, DNSName: name}); err != nil {
		return untrusted{err}
	}
	return nil
}

// settle waits for what the original thinks of our certificate, where that comes late.
func (a *approach) settle(c *Conn) error {
	if !a.asked || a.m.accepted.Load() || c.tls.ConnectionState().Version != tls.VersionTLS13 {
		return nil
	}
	_ = c.SetReadDeadline(time.Now().Add(settling))
	c.line.sips = sip
	b := make([]byte, 1)
	n, err := c.tls.Read(b)
	c.line.sips = unbound
	c.first = b[:n]
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	a.m.accepted.Store(true)
	return c.SetReadDeadline(time.Time{})
}

// alarm notes that the original may have changed its mind: the next connection looks.
func (a *approach) alarm(err error) {
	if a.asked && isAlert(err) {
		a.m.accepted.Store(false)
	}
}

// isAlert reports whether the peer has ended TLS with a word of refusal.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// explain says why the original does not shake hands. What the developer can do nothing about, because it is between the client and the original, is no *Error.
func (a *approach) explain(err error) error {
	var foreign tls.RecordHeaderError
	var wrong untrusted
	switch {
	case errors.Is(err, errAsked):
		return a.config.passes(err, "give the agent one that the original accepts, with original: in that entry of tls:; or say original.anonymous there, if it can do without",
			"the original asks clients for a certificate")
	case errors.As(err, &foreign):
		return a.config.passes(err, "leave the port out of tls:", "the original does not speak TLS")
	case errors.As(err, &wrong):
		return a.config.passes(err, "is original.ca, in that entry of tls:, the one that signed it? original.serverName is the name in it", "the original's certificate: %v", wrong.error)
	case a.asked && (isAlert(err) || errors.Is(err, syscall.ECONNRESET)):
		return a.config.passes(err, "see original: in that entry of tls:", "the original does not accept the agent's certificate, or that it has none: %v", err)
	}
	return fmt.Errorf("the original does not shake hands: %w", err)
}

// likeness says whether clients would take our certificate for the original's. After it was renewed one of the two is older than the other.
func (a *approach) likeness(own *tls.Certificate, original tls.ConnectionState) error {
	ours, its := own.Leaf, original.PeerCertificates[0]
	if bytes.Equal(ours.Raw, its.Raw) {
		return nil
	}
	const advice = "name the original's own certificate in that entry of tls:"
	if !bytes.Equal(ours.RawIssuer, its.RawIssuer) {
		return a.config.passes(nil, advice, "the original shows a certificate of %s, and ours is of %s", its.Issuer, ours.Issuer)
	}
	if name := original.ServerName; name != "" && its.VerifyHostname(name) == nil && ours.VerifyHostname(name) != nil {
		return a.config.passes(nil, advice, "the original has a certificate for %s, and ours is for %s", name, namesOf(ours))
	}
	return nil
}

func namesOf(c *x509.Certificate) string {
	if len(c.DNSNames) > 0 {
		return c.DNSNames[0]
	}
	return c.Subject.String()
}

package handshake

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// enough bounds every wait of these tests.
const enough = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An issuer signs certificates.
type issuer struct {
	leaf *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

func mustIssuer(tb testing.TB, name string) *issuer {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(tb), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key := mustKey(tb)
	return &issuer{leaf: mustSign(tb, template, template, key.Public(), key), key: key, pem: certificatePEM(mustSign(tb, template, template, key.Public(), key))}
}

func (i *issuer) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(i.pem)
	return pool
}

// issue returns a pair for names, as PEM.
func (i *issuer) issue(tb testing.TB, key crypto.Signer, change func(*x509.Certificate), names ...string) (chain, private []byte) {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(tb), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	return certificatePEM(mustSign(tb, template, i.leaf, key.Public(), i.key)), keyPEM(tb, key)
}

// mustIssue returns a pair with a key of the common kind.
func (i *issuer) mustIssue(tb testing.TB, names ...string) (Pair, tls.Certificate) {
	tb.Helper()
	chain, private := i.issue(tb, mustKey(tb), nil, names...)
	both, err := tls.X509KeyPair(chain, private)
	if err != nil {
		tb.Fatal(err)
	}
	return Pair{Text{PEM: chain}, Text{PEM: private}}, both
}

func serial(tb testing.TB) *big.Int {
	tb.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func mustKey(tb testing.TB) crypto.Signer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func mustSign(tb testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func certificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})
}

func keyPEM(tb testing.TB, key crypto.Signer) []byte {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})
}

// A seen is one connection that came to an original.
type seen struct {
	state tls.ConnectionState
	err   error // of the handshake
}

// An original is a TLS server, which echoes.
type original struct {
	net.Listener
	seen chan seen
}

func mustOriginal(tb testing.TB, config *tls.Config) *original {
	tb.Helper()
	o := &original{mustListen(tb), make(chan seen, 100)}
	mustServe(tb, o, func(raw net.Conn) {
		defer raw.Close()
		c := tls.Server(raw, config)
		err := c.Handshake()
		o.seen <- seen{c.ConnectionState(), err}
		if err != nil {
			return
		}
		if _, err := io.Copy(c, c); err == nil {
			_ = c.CloseWrite()
		}
	})
	return o
}

func (o *original) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", o.Addr().String())
}

func mustListen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// mustServe serves connections until the test ends, and then waits for those that are served.
func mustServe(tb testing.TB, l net.Listener, serve func(net.Conn)) {
	tb.Helper()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serve(c) })
		}
	})
	tb.Cleanup(func() {
		l.Close()
		over := make(chan struct{})
		go func() { defer close(over); all.Wait() }()
		select {
		case <-over:
		case <-time.After(enough):
			tb.Error("a connection is still served")
		}
	})
}

// An agent is what stands between: it accepts and relays as the router does with what is no HTTP.
type agent struct {
	net.Listener
	results chan *Result
	errs    chan error
}

func mustAgent(tb testing.TB, p *Port, dial Dialer) *agent {
	tb.Helper()
	a := &agent{mustListen(tb), make(chan *Result, 100), make(chan error, 100)}
	mustServe(tb, a, func(client net.Conn) {
		r, err := p.Accept(tb.Context(), client, dial)
		if err != nil {
			a.errs <- err
			return
		}
		a.results <- r
		relay(tb.Context(), r)
	})
	return a
}

func relay(ctx context.Context, r *Result) {
	defer r.Close()
	defer r.Client.Close()
	up, err := r.Dial(ctx)
	if err != nil {
		reset(r.Client)
		return
	}
	defer up.Close()
	var back sync.WaitGroup
	back.Go(func() { pour(r.Client, up) })
	pour(up, r.Client)
	back.Wait()
}

func pour(dst, src net.Conn) {
	_, err := io.Copy(struct{ io.Writer }{dst}, struct{ io.Reader }{src})
	if err == nil {
		err = dst.(interface{ CloseWrite() error }).CloseWrite()
	}
	if err != nil {
		reset(dst)
		reset(src)
	}
}

func reset(c net.Conn) {
	switch c := c.(type) {
	case *net.TCPConn:
		_ = c.SetLinger(0)
		c.Close()
	case interface{ Reset(errno syscall.Errno) }:
		c.Reset(syscall.ECONNRESET)
	}
}

// result returns what was decided on the next connection.
func (a *agent) result(tb testing.TB) *Result {
	tb.Helper()
	select {
	case r := <-a.results:
		return r
	case err := <-a.errs:
		tb.Fatalf("no result: %v", err)
	case <-time.After(enough):
		tb.Fatal("no result")
	}
	return nil
}

func (a *agent) dial(tb testing.TB) *net.TCPConn {
	tb.Helper()
	c, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// An outcome is what a client notices of a handshake.
type outcome struct {
	err      string
	protocol string
	version  uint16
	cipher   uint16
	leaf     string
}

// meet shakes hands, sends a word and wants it back.
func meet(tb testing.TB, to net.Addr, config *tls.Config) (*tls.Conn, outcome) {
	tb.Helper()
	raw, err := net.Dial("tcp", to.String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(enough))
	c := tls.Client(raw, config)
	err = c.Handshake()
	if err == nil {
		err = echoes(c, "hello")
	}
	if err != nil {
		return nil, outcome{err: err.Error()}
	}
	state := c.ConnectionState()
	return c, outcome{protocol: state.NegotiatedProtocol, version: state.Version, cipher: state.CipherSuite, leaf: string(state.PeerCertificates[0].Raw)}
}

func echoes(c net.Conn, word string) error {
	if _, err := io.WriteString(c, word); err != nil {
		return err
	}
	b := make([]byte, len(word))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if !bytes.Equal(b, []byte(word)) {
		return errors.New("something else came back")
	}
	return nil
}

// insecure is a client that trusts everybody.
func insecure(name string, protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: protocols}
}

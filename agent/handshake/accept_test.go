package handshake

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const shop = "shop.example"

func TestAClientMeetsTheProtocolThatItMeetsWithoutUs(t *testing.T) {
	ca := mustIssuer(t, "ca")
	pair, own := ca.mustIssue(t, shop)
	lists := [][]string{nil, {"h2"}, {"http/1.1"}, {"h2", "http/1.1"}, {"http/1.1", "h2"}}
	for _, server := range append(lists, []string{"acme-tls/1"}, []string{"acme-tls/1", "h2"}, []string{"h2", "http/1.1", "acme-tls/1"}) {
		o := mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: server})
		a := mustAgent(t, New(Config{Port: 8443, Own: pair}), o.dial)
		for _, client := range append(lists, []string{"acme-tls/1"}, []string{"h2", "h2", "http/1.1"}, []string{"postgresql"}, []string{"spdy/3.1", "http/1.1"}) {
			name := fmt.Sprintf("server %v, client %v", server, client)
			_, direct := meet(t, o.Addr(), insecure(shop, client...))
			_, through := meet(t, a.Addr(), insecure(shop, client...))
			if direct != through {
				t.Errorf("%s: direct %+v, through us %+v", name, direct, through)
			}
			r := a.result(t)
			odd := len(client) > 0 && !slices.Contains(client, "h2") && !slices.Contains(client, "http/1.1")
			if wantEnded := direct.err == "" && !odd; (r.Kind == Ended) != wantEnded {
				t.Errorf("%s: kind %d, because %v", name, r.Kind, r.Why)
			}
		}
	}
}

func TestTheOriginalHearsWhatTheClientAsksFor(t *testing.T) {
	ca := mustIssuer(t, "ca")
	pair, own := ca.mustIssue(t, "*.example")
	hellos := make(chan *tls.ClientHelloInfo, 10)
	o := mustOriginal(t, &tls.Config{MinVersion: tls.VersionTLS10, Certificates: []tls.Certificate{own}, NextProtos: []string{"h2"}, GetConfigForClient: func(chi *tls.ClientHelloInfo) (*tls.Config, error) {
		hellos <- chi
		return nil, nil
	}})
	a := mustAgent(t, New(Config{Own: pair}), o.dial)
	for _, name := range []string{"", "a.example", "B.Example"} {
		if _, got := meet(t, a.Addr(), insecure(name, "http/1.1", "h2")); got.err != "" {
			t.Fatal(got.err)
		}
		if chi := <-hellos; chi.ServerName != name || !slices.Equal(chi.SupportedProtos, []string{"http/1.1", "h2"}) {
			t.Errorf("the original hears %q, %v; want %q", chi.ServerName, chi.SupportedProtos, name)
		}
		r := a.result(t)
		if state := r.Client.(*Conn).ConnectionState(); state.ServerName != name || state.NegotiatedProtocol != "h2" {
			t.Errorf("the state has %q, %q", state.ServerName, state.NegotiatedProtocol)
		}
	}
}

func TestVersionsAndCiphersAreThoseOfTheOriginal(t *testing.T) {
	ca := mustIssuer(t, "ca")
	pair, own := ca.mustIssue(t, shop)
	for _, server := range [][2]uint16{{tls.VersionTLS10, tls.VersionTLS13}, {tls.VersionTLS10, tls.VersionTLS10}, {tls.VersionTLS11, tls.VersionTLS12}, {tls.VersionTLS13, tls.VersionTLS13}} {
		o := mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: server[0], MaxVersion: server[1], CipherSuites: ciphers})
		a := mustAgent(t, New(Config{Own: pair}), o.dial)
		for _, client := range [][2]uint16{{tls.VersionTLS10, tls.VersionTLS13}, {tls.VersionTLS10, tls.VersionTLS10}, {tls.VersionTLS12, tls.VersionTLS12}, {tls.VersionTLS13, tls.VersionTLS13}} {
			for _, only := range append([][]uint16{ciphers}, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}, []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}) {
				config := insecure(shop)
				config.MinVersion, config.MaxVersion, config.CipherSuites = client[0], client[1], only
				_, direct := meet(t, o.Addr(), config)
				_, through := meet(t, a.Addr(), config)
				if direct != through {
					t.Errorf("server %x, client %x with %x: direct %+v, through us %+v", server, client, only, direct, through)
				}
				if r := a.result(t); (r.Kind == Ended) != (direct.err == "") {
					t.Errorf("server %x, client %x: kind %d, because %v", server, client, r.Kind, r.Why)
				}
			}
		}
	}
}

func TestTheOriginalSeesOurCertificateAndClientsAreVerified(t *testing.T) {
	ca, clients := mustIssuer(t, "ca"), mustIssuer(t, "clients")
	pair, own := ca.mustIssue(t, shop)
	ours, _ := clients.mustIssue(t, "agent")
	_, theirs := clients.mustIssue(t, "somebody")
	_, strange := mustIssuer(t, "strangers").mustIssue(t, "stranger")
	o := mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients.pool()})
	with := func(c ...tls.Certificate) *tls.Config {
		config := insecure(shop)
		if len(c) > 0 { // whomever the server trusts
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c[0], nil }
		}
		return config
	}
	for _, c := range []struct {
		name   string
		verify Verify
		ca     Text
		client *tls.Config
		peer   string
		alert  string
	}{
		{"one that is known", VerifyRequire, Text{PEM: clients.pem}, with(theirs), "somebody", ""},
		{"none", VerifyRequire, Text{PEM: clients.pem}, with(), "", "certificate required"},
		{"a stranger", VerifyRequire, Text{PEM: clients.pem}, with(strange), "", "unknown certificate authority"},
		{"none, which may be", VerifyRequest, Text{PEM: clients.pem}, with(), "", ""},
		{"a stranger, if one is shown", VerifyRequest, Text{PEM: clients.pem}, with(strange), "", "unknown certificate authority"},
		{"anybody", VerifyRequest, Text{}, with(strange), "stranger", ""},
		{"nobody is asked", VerifyNone, Text{}, with(theirs), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := mustAgent(t, New(Config{Own: pair, Original: ours, Clients: c.verify, ClientCA: c.ca}), o.dial)
			_, got := meet(t, a.Addr(), c.client)
			if met := <-o.seen; met.err != nil || met.state.PeerCertificates[0].Subject.CommonName != "agent" {
				t.Errorf("the original met %+v", met)
			}
			if c.alert != "" {
				if err := <-a.errs; !strings.Contains(got.err, c.alert) {
					t.Errorf("the client hears %q, want %q; we say %v", got.err, c.alert, err)
				}
				return
			}
			if got.err != "" {
				t.Fatal(got.err)
			}
			peer := ""
			if seen := a.result(t).Client.(*Conn).ConnectionState().PeerCertificates; len(seen) > 0 {
				peer = seen[0].Subject.CommonName
			}
			if peer != c.peer {
				t.Errorf("the client is %q, want %q", peer, c.peer)
			}
		})
	}
}

func TestAnOriginalThatCanDoWithoutACertificateIsLookedInto(t *testing.T) {
	pair, own := mustIssuer(t, "ca").mustIssue(t, shop)
	for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		o := mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert, MaxVersion: max})
		a := mustAgent(t, New(Config{Own: pair, Anonymous: true}), o.dial)
		if _, got := meet(t, a.Addr(), insecure(shop)); got.err != "" {
			t.Fatal(got.err)
		}
		if r := a.result(t); r.Kind != Ended {
			t.Errorf("kind %d, because %v", r.Kind, r.Why)
		}
	}
}

func TestAnOriginalThatIsNotThereLeavesTheClientToSessions(t *testing.T) {
	pair, own := mustIssuer(t, "ca").mustIssue(t, shop)
	o := mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: []string{"h2", "http/1.1"}})
	p := New(Config{Own: pair})
	a := mustAgent(t, p, o.dial)
	_, _ = meet(t, a.Addr(), insecure(shop, "http/1.1", "h2"))
	a.result(t)
	gone := func(context.Context) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
	l := mustListen(t)
	defer l.Close()
	for offered, want := range map[string]string{"http/1.1 h2": "h2", "http/1.1": "http/1.1", "": ""} { // what it picked, or the client's own wish
		done := make(chan string, 1)
		go func() {
			c, err := tls.Dial("tcp", l.Addr().String(), insecure(shop, strings.Fields(offered)...))
			if err != nil {
				done <- err.Error()
				return
			}
			defer c.Close()
			done <- c.ConnectionState().NegotiatedProtocol
		}()
		client, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Accept(t.Context(), client, gone)
		if err != nil || r.Kind != Ended {
			t.Fatalf("%+v, %v", r, err)
		}
		if got := <-done; got != want {
			t.Errorf("offered %q: %q, want %q", offered, got, want)
		}
		for range 2 {
			if _, err := r.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("dial: %v", err)
			}
		}
		r.Client.Close()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheOriginalIsDialledAgainInTheSameProtocol(t *testing.T) {
	pair, own := mustIssuer(t, "ca").mustIssue(t, shop)
	hellos := make(chan []string, 10)
	answer := []string{"h2", "http/1.1"}
	o := mustOriginal(t, &tls.Config{GetConfigForClient: func(chi *tls.ClientHelloInfo) (*tls.Config, error) {
		hellos <- chi.SupportedProtos
		return &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: answer}, nil
	}})
	a := mustAgent(t, New(Config{Own: pair}), o.dial)
	if _, got := meet(t, a.Addr(), insecure(shop, "http/1.1", "h2")); got.protocol != "h2" {
		t.Fatalf("%+v", got)
	}
	<-hellos
	r := a.result(t)
	again, err := r.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state := again.(*Conn).ConnectionState(); state.NegotiatedProtocol != "h2" || state.ServerName != shop {
		t.Errorf("%q, %q", state.NegotiatedProtocol, state.ServerName)
	}
	if offered := <-hellos; !slices.Equal(offered, []string{"h2"}) {
		t.Errorf("offered %v", offered)
	}
	again.Close()
	answer = nil // it has forgotten
	if c, err := r.Dial(t.Context()); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, %v", c, err)
	}
}

func TestAClientMayResume(t *testing.T) {
	pair, own := mustIssuer(t, "ca").mustIssue(t, shop)
	o := mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}})
	a := mustAgent(t, New(Config{Own: pair}), o.dial)
	config := insecure(shop)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		c, got := meet(t, a.Addr(), config)
		if got.err != "" || c.ConnectionState().DidResume != (i > 0) {
			t.Errorf("connection %d: %+v", i, got)
		}
		if met := <-o.seen; met.state.DidResume != (i > 0) {
			t.Errorf("connection %d to the original: resumed %v", i, met.state.DidResume)
		}
	}
}

func TestAnOriginalThatDoesNotShakeHandsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pair, _ := mustIssuer(t, "ca").mustIssue(t, shop)
		client, ours := net.Pipe()
		silent, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		go func() { _ = tls.Client(client, insecure(shop)).Handshake() }()
		begin := time.Now()
		r, err := New(Config{Own: pair}).Accept(t.Context(), ours, func(context.Context) (net.Conn, error) { return silent, nil })
		if err != nil || r.Kind != Raw || !errors.Is(r.Why, context.DeadlineExceeded) || time.Since(begin) != shaking {
			t.Fatalf("%+v, %v after %v", r, err, time.Since(begin))
		}
		client.Close()
		r.Client.Close()
	})
}

func TestAClientThatGoesAwayLeavesNothing(t *testing.T) {
	pair, own := mustIssuer(t, "ca").mustIssue(t, shop)
	o := mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}})
	ended := make(chan error, 1)
	a := mustAgent(t, New(Config{Own: pair}), func(ctx context.Context) (net.Conn, error) {
		c, err := o.dial(ctx)
		return &watched{c, ended}, err
	})
	client := a.dial(t)
	if _, err := client.Write(helloOf(insecure(shop))); err != nil {
		t.Fatal(err)
	}
	if met := <-o.seen; met.err != nil {
		t.Fatal(met.err)
	}
	_ = client.SetLinger(0)
	client.Close()
	if err := <-a.errs; err == nil {
		t.Error("no error")
	}
	<-ended
}

// watched tells when it is closed.
type watched struct {
	net.Conn
	closed chan error
}

func (w *watched) Close() error {
	err := w.Conn.Close()
	w.closed <- err
	return err
}

// helloOf is what a client says first.
func helloOf(config *tls.Config) []byte {
	c := &captured{}
	_ = tls.Client(c, config).Handshake()
	return c.Bytes()
}

// captured keeps what is written, and has nothing to read.
type captured struct {
	net.Conn
	bytes.Buffer
}

func (c *captured) Read([]byte) (int, error)    { return 0, io.EOF }
func (c *captured) Write(b []byte) (int, error) { return c.Buffer.Write(b) }

func rsaPair(tb testing.TB, ca *issuer) Pair {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	chain, private := ca.issue(tb, key, nil, shop)
	return Pair{Text{PEM: chain}, Text{PEM: private}}
}

func TestAnAgentThatStopsWaitsForNobody(t *testing.T) {
	pair, _ := mustIssuer(t, "ca").mustIssue(t, shop)
	for name, say := range map[string][]byte{"silent": nil, "in the middle of its hello": helloOf(insecure(shop))[:50], "shaking hands": helloOf(insecure(shop))} {
		t.Run(name, func(t *testing.T) {
			l := mustListen(t)
			defer l.Close()
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Write(say); err != nil {
				t.Fatal(err)
			}
			ours, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			silent := mustListen(t)
			reached := make(chan net.Conn, 1)
			mustServe(t, silent, func(c net.Conn) { reached <- c })
			ctx, stop := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() {
				_, err := New(Config{Own: pair}).Accept(ctx, ours, (&original{Listener: silent}).dial)
				result <- err
			}()
			if name == "shaking hands" {
				original := <-reached
				defer original.Close()
				if _, err := original.Read(make([]byte, 1)); err != nil { // our hello
					t.Fatal(err)
				}
				defer func() {
					if _, err := io.Copy(io.Discard, original); err != nil && !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the original reads %v", err)
					}
				}()
			}
			stop()
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if _, err := client.Read(make([]byte, 1)); err == nil {
				t.Error("the client is not let go")
			}
		})
	}
}

func TestAnOriginalThatNobodyDialsIsLetGo(t *testing.T) {
	pair, own := mustIssuer(t, "ca").mustIssue(t, shop)
	l := mustListen(t)
	defer l.Close()
	ended := make(chan end, 1)
	server := mustListen(t)
	mustServe(t, server, func(raw net.Conn) {
		e := &ending{TCPConn: raw.(*net.TCPConn)}
		defer e.TCPConn.Close()
		ended <- see(tls.Server(e, &tls.Config{Certificates: []tls.Certificate{own}}), e)
	})
	go func() { // a client whose requests are all stolen
		if c, err := tls.Dial("tcp", l.Addr().String(), insecure(shop)); err == nil {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	client, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Own: pair}).Accept(t.Context(), client, (&original{Listener: server}).dial)
	if err != nil {
		t.Fatal(err)
	}
	r.Client.Close()
	r.Close()
	if got := <-ended; !got.worded {
		t.Errorf("the original sees %+v", got)
	}
	if err := r.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

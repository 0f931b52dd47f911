package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// exporter is equal at both ends of one TLS, and at no others.
func exporter(tb testing.TB, state tls.ConnectionState) string {
	tb.Helper()
	key, err := state.ExportKeyingMaterial("EXPORTER-magpie", nil, 16)
	if err != nil {
		tb.Fatal(err)
	}
	return string(key)
}

func TestWhatWeCannotServePassesWhole(t *testing.T) {
	ca := mustIssuer(t, "ca")
	pair, own := ca.mustIssue(t, shop)
	_, other := mustIssuer(t, "another ca").mustIssue(t, shop)
	otherName, _ := ca.mustIssue(t, "old.example")
	asking := &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert}
	strict := &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()}
	stranger, _ := mustIssuer(t, "stranger").mustIssue(t, "client")
	withMember := func() *tls.Config {
		_, member := ca.mustIssue(t, "client")
		c := insecure(shop)
		c.Certificates = []tls.Certificate{member}
		return c
	}
	for name, c := range map[string]struct {
		config      Config
		server      *tls.Config
		client      *tls.Config
		cause, hint string // cause without a hint: no *Error
	}{
		"another protocol":                       {Config{Own: pair}, &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: []string{"acme-tls/1"}}, insecure(shop, "acme-tls/1"), "asks for acme-tls/1", ""},
		"the original asks for a certificate":    {Config{Own: pair}, asking, insecure(shop), "asks clients for a certificate", "original.anonymous"},
		"and the client has one":                 {Config{Own: pair}, strict, withMember(), "asks clients for a certificate", "original.anonymous"},
		"ours is not accepted":                   {Config{Own: pair, Original: stranger}, strict, withMember(), "does not accept", "original:"},
		"none is not accepted":                   {Config{Own: pair, Anonymous: true}, strict, withMember(), "does not accept", "original:"},
		"ours is not accepted in TLS 1.2":        {Config{Own: pair, Original: stranger}, &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: strict.Certificates, ClientAuth: strict.ClientAuth, ClientCAs: strict.ClientCAs}, withMember(), "does not accept", "original:"},
		"the original has another certificate":   {Config{Own: pair}, &tls.Config{Certificates: []tls.Certificate{other}}, insecure(shop), "shows a certificate of CN=another ca, and ours is of CN=ca", "own certificate"},
		"the original has one for another name":  {Config{Own: otherName}, &tls.Config{Certificates: []tls.Certificate{own}}, insecure(shop), "for shop.example, and ours is for old.example", "own certificate"},
		"the original is not verified":           {Config{Own: pair, OriginalCA: Text{PEM: mustIssuer(t, "ca").pem}}, &tls.Config{Certificates: []tls.Certificate{own}}, insecure(shop), "the original's certificate: ", "original.ca"},
		"the original has not the wanted name":   {Config{Own: pair, OriginalCA: Text{PEM: ca.pem}, OriginalName: "x.example"}, &tls.Config{Certificates: []tls.Certificate{own}}, insecure(shop), "x.example", "serverName"},
		"nor the name that the client asks for":  {Config{Own: pair, OriginalCA: Text{PEM: ca.pem}}, &tls.Config{Certificates: []tls.Certificate{own}}, insecure("y.example"), "y.example", "serverName"},
		"our files are bad":                      {Config{}, &tls.Config{Certificates: []tls.Certificate{own}}, insecure(shop), "certificate: there is no certificate", "BEGIN CERTIFICATE"},
		"the client cannot take our certificate": {Config{Own: rsaPair(t, ca)}, &tls.Config{Certificates: []tls.Certificate{own}}, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, "cannot take our certificate", ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := mustOriginal(t, c.server)
			a := mustAgent(t, New(c.config), o.dial)
			client, got := meet(t, a.Addr(), c.client)
			if got.err != "" {
				t.Fatal(got.err)
			}
			r := a.result(t)
			if r.Kind != Raw || r.Why == nil || !strings.Contains(r.Why.Error(), c.cause) {
				t.Fatalf("kind %d, because %v; want %q", r.Kind, r.Why, c.cause)
			}
			var told *Error
			if errors.As(r.Why, &told) != (c.hint != "") || c.hint != "" && !strings.Contains(told.Hint(), c.hint) {
				t.Errorf("hint of %#v, want %q", r.Why, c.hint)
			}
			for met := range o.seen {
				if met.err == nil && exporter(t, met.state) == exporter(t, client.ConnectionState()) {
					return
				}
				if len(o.seen) == 0 {
					t.Fatal("the original did not meet the client itself")
				}
			}
		})
	}
}

func TestARefusalOfTheOriginalIsTheClientsToHear(t *testing.T) {
	ca := mustIssuer(t, "ca")
	pair, own := ca.mustIssue(t, shop)
	plain := mustListen(t)
	mustServe(t, plain, func(c net.Conn) {
		defer c.Close()
		_, _ = c.Read(make([]byte, 1))
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	for name, c := range map[string]struct {
		server *tls.Config
		client *tls.Config
	}{
		"protocol":    {&tls.Config{Certificates: []tls.Certificate{own}, NextProtos: []string{"http/1.1"}}, insecure(shop, "h2")},
		"version":     {&tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13}, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}},
		"name":        {&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }}, insecure(shop)},
		"certificate": {&tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert}, insecure(shop)},
		"no TLS":      {nil, insecure(shop)},
	} {
		t.Run(name, func(t *testing.T) {
			at, dial := plain.Addr(), func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", plain.Addr().String())
			}
			if c.server != nil {
				o := mustOriginal(t, c.server)
				at, dial = o.Addr(), o.dial
			}
			a := mustAgent(t, New(Config{Own: pair}), dial)
			_, direct := meet(t, at, c.client)
			_, through := meet(t, a.Addr(), c.client)
			if direct.err == "" || direct != through {
				t.Errorf("direct %+v, through us %+v", direct, through)
			}
		})
	}
}

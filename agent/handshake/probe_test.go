package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestLooksNeedsSixBytesForYesAndOneForNo(t *testing.T) {
	hello := string(helloOf(insecure(shop)))
	for first, want := range map[string][2]bool{
		"": {false, false}, hello[:1]: {false, false}, hello[:5]: {false, false}, hello[:6]: {true, true}, hello: {true, true},
		"G": {false, true}, "\x16G": {false, true}, "\x16\x03G": {false, true}, "\x16\x03\x01\x00\x00": {false, true}, "\x16\x03\x01\x40\x01": {false, true},
		"\x16\x03\x01\x40\x00\x01": {true, true}, "\x16\x03\x01\x00\x05\x02": {false, true}, "\x15\x03\x01": {false, true}, "\x80\x2e\x01": {false, true},
	} {
		if begins, enough := Looks([]byte(first)); begins != want[0] || enough != want[1] {
			t.Errorf("%.8q: %v, %v; want %v", first, begins, enough, want)
		}
	}
}

func TestAProbeTellsTLSFromAnythingElse(t *testing.T) {
	_, own := mustIssuer(t, "ca").mustIssue(t, shop)
	for name, config := range map[string]*tls.Config{
		"it shakes hands":      {Certificates: []tls.Certificate{own}},
		"it wants certificate": {Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12},
		"it wants a name":      {GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }},
		"it is old":            {Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
	} {
		o := mustOriginal(t, config)
		if speaks, err := Probe(t.Context(), o.dial); !speaks || err != nil {
			t.Errorf("%s: %v, %v", name, speaks, err)
		}
	}
	for name, serve := range map[string]func(net.Conn){
		"HTTP":      func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"it closes": func(net.Conn) {},
	} {
		l := mustListen(t)
		mustServe(t, l, func(c net.Conn) {
			defer c.Close()
			_, _ = c.Read(make([]byte, 1<<10))
			serve(c)
		})
		if speaks, err := Probe(t.Context(), (&original{Listener: l}).dial); speaks || err != nil {
			t.Errorf("%s: %v, %v", name, speaks, err)
		}
	}
	if _, err := Probe(t.Context(), func(context.Context) (net.Conn, error) { return nil, syscall.ECONNREFUSED }); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody there: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		begin := time.Now()
		if speaks, err := Probe(t.Context(), func(context.Context) (net.Conn, error) { return ours, nil }); speaks || err != nil || time.Since(begin) != probing {
			t.Errorf("silence: %v, %v after %v", speaks, err, time.Since(begin))
		}
	})
}

func TestAProbeEndsAsAClientShould(t *testing.T) {
	_, own := mustIssuer(t, "ca").mustIssue(t, shop)
	ended := make(chan end, 1)
	l := mustListen(t)
	mustServe(t, l, func(raw net.Conn) {
		e := &ending{TCPConn: raw.(*net.TCPConn)}
		defer e.TCPConn.Close()
		ended <- see(tls.Server(e, &tls.Config{Certificates: []tls.Certificate{own}}), e)
	})
	if _, err := Probe(t.Context(), (&original{Listener: l}).dial); err != nil {
		t.Fatal(err)
	}
	if got := <-ended; !got.worded {
		t.Errorf("the original sees %+v", got)
	}
}

func TestATrySaysWhatAConnectionWouldMeet(t *testing.T) {
	ca := mustIssuer(t, "ca")
	pair, own := ca.mustIssue(t, shop)
	_, other := mustIssuer(t, "another").mustIssue(t, shop)
	plain := mustListen(t)
	mustServe(t, plain, func(c net.Conn) {
		defer c.Close()
		_, _ = io.WriteString(c, "220 mail.example\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	gone := mustListen(t)
	gone.Close()
	for name, c := range map[string]struct {
		dial Dialer
		want string
	}{
		"well":            {mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}}).dial, ""},
		"not there":       {(&original{Listener: gone}).dial, ""},
		"no TLS":          {(&original{Listener: plain}).dial, "port 8443: the original does not speak TLS: connections pass as they are"},
		"a certificate":   {mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert}).dial, "asks clients for a certificate"},
		"somebody else's": {mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{other}}).dial, "shows a certificate of CN=another"},
	} {
		err := New(Config{Port: 8443, Own: pair}).Try(t.Context(), c.dial)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

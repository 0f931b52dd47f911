package handshake

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func block(kind string, der []byte, headers ...string) []byte {
	b := &pem.Block{Type: kind, Bytes: der}
	if len(headers) == 2 {
		b.Headers = map[string]string{headers[0]: headers[1]}
	}
	return pem.EncodeToMemory(b)
}

func TestAllCommonKeysAreRead(t *testing.T) {
	ca := mustIssuer(t, "ca")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key crypto.Signer
		pem []byte
	}{
		"RSA in PKCS#1":              {rsaKey, block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))},
		"RSA in PKCS#8":              {rsaKey, keyPEM(t, rsaKey)},
		"ECDSA in SEC 1":             {ec, block("EC PRIVATE KEY", sec1)},
		"ECDSA with its parameters":  {ec, append(block("EC PARAMETERS", []byte{6, 5, 43, 129, 4, 0, 34}), block("EC PRIVATE KEY", sec1)...)},
		"ECDSA in PKCS#8":            {ec, keyPEM(t, ec)},
		"Ed25519 in PKCS#8":          {ed, keyPEM(t, ed)},
		"with words around":          {ec, append([]byte("Bag Attributes\n  friendlyName: shop\n"), keyPEM(t, ec)...)},
		"lines as Windows ends them": {ec, bytes.ReplaceAll(keyPEM(t, ec), []byte("\n"), []byte("\r\n"))},
	} {
		t.Run(name, func(t *testing.T) {
			chain, _ := ca.issue(t, c.key, nil, shop)
			pair := Pair{Text{PEM: append(chain, ca.pem...)}, Text{PEM: c.pem}}
			p := New(Config{Own: pair})
			if err := p.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			own := p.now.Load().own
			o := mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}})
			a := mustAgent(t, p, o.dial)
			client, got := meet(t, a.Addr(), &tls.Config{RootCAs: ca.pool(), ServerName: shop})
			if got.err != "" || len(client.ConnectionState().PeerCertificates) != 2 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestWhatIsWrongWithCertificatesIsSaidAtOnce(t *testing.T) {
	ca := mustIssuer(t, "ca")
	key := mustKey(t)
	chain, private := ca.issue(t, key, nil, shop)
	der, _ := pem.Decode(chain)
	keyDER, _ := pem.Decode(private)
	_, otherKey := ca.issue(t, mustKey(t), nil, shop)
	old, _ := ca.issue(t, key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, shop)
	early, _ := ca.issue(t, key, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, shop)
	files := func(err error) func(string) ([]byte, error) {
		return func(path string) ([]byte, error) {
			if path == "/etc/tls/tls.key" {
				return private, nil
			}
			return nil, err
		}
	}
	inFiles := Pair{Text{Path: "/etc/tls/tls.crt"}, Text{Path: "/etc/tls/tls.key"}}
	text := func(chain, private []byte) Config {
		return Config{Own: Pair{Text{PEM: chain}, Text{PEM: private}}}
	}
	for name, c := range map[string]struct {
		config      Config
		cause, hint string
	}{
		"no file":              {Config{Own: inFiles, Read: files(&fs.PathError{Op: "open", Path: "/etc/tls/tls.crt", Err: fs.ErrNotExist})}, "read certificate /etc/tls/tls.crt: file does not exist", "container"},
		"no right":             {Config{Own: inFiles, Read: files(syscall.EACCES)}, "read certificate /etc/tls/tls.crt: permission denied", "secret:"},
		"an error with a hint": {Config{Own: inFiles, Read: files(&Error{"too long", "shorten it", nil})}, "read certificate /etc/tls/tls.crt: too long", "shorten it"},
		"no files":             {Config{Own: inFiles}, "the target has no files", "secret:"},
		"nothing":              {text(nil, private), "certificate: there is no certificate", "BEGIN CERTIFICATE"},
		"exchanged":            {text(private, chain), "certificate: there is no certificate", "exchanged"},
		"twice the same":       {text(chain, chain), "key: there is no private key", "exchanged"},
		"DER":                  {text(der.Bytes, private), "certificate: there is no certificate", "x509 -inform der"},
		"a key in DER":         {text(chain, keyDER.Bytes), "key: there is no private key", "pkey -inform der"},
		"garbage":              {text(block("CERTIFICATE", []byte("garbage")), private), "certificate: x509: ", "openssl x509"},
		"a garbage key":        {text(chain, block("PRIVATE KEY", []byte("garbage"))), "key: failed to parse private key", "RSA, ECDSA and Ed25519"},
		"another's key":        {text(chain, otherKey), "key does not belong to certificate", "comes first"},
		"the chain first":      {text(append(bytes.Clone(ca.pem), chain...), private), "key does not belong to certificate", "comes first"},
		"expired":              {text(old, private), "certificate expired on 20", "renew"},
		"not yet valid":        {text(early, private), "certificate is not valid before 20", "clock"},
		"an encrypted key":     {text(chain, block("ENCRYPTED PRIVATE KEY", []byte("secret"))), "key: it is encrypted", "openssl pkey"},
		"one of old":           {text(chain, block("RSA PRIVATE KEY", []byte("secret"), "Proc-Type", "4,ENCRYPTED")), "key: it is encrypted", "openssl pkey"},
		"no authority":         {Config{Own: Pair{Text{PEM: chain}, Text{PEM: private}}, Clients: VerifyRequire}, "clients.verify: nobody could be accepted", "authorities"},
		"a bad authority":      {Config{Own: Pair{Text{PEM: chain}, Text{PEM: private}}, Clients: VerifyRequire, ClientCA: Text{PEM: private}}, "clients.ca: there is no certificate", "exchanged"},
		"a bad original":       {Config{Own: Pair{Text{PEM: chain}, Text{PEM: private}}, Original: Pair{Text{PEM: chain}, Text{PEM: otherKey}}}, "original.key does not belong to original.certificate", "comes first"},
		"its bad authority":    {Config{Own: Pair{Text{PEM: chain}, Text{PEM: private}}, OriginalCA: Text{PEM: []byte("x")}}, "original.ca: there is no certificate", "BEGIN"},
	} {
		err := New(c.config).Check(t.Context())
		var told *Error
		if !errors.As(err, &told) || !strings.Contains(told.Error(), c.cause) || !strings.Contains(told.Hint(), c.hint) {
			t.Errorf("%s: %v, hint %q; want %q and %q", name, err, told.Hint(), c.cause, c.hint)
		}
	}
}

// A folder is files that change.
type folder struct {
	mu    sync.Mutex
	files map[string][]byte
	reads int
}

func (f *folder) read(path string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if b, ok := f.files[path]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (f *folder) put(chain, private []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files = map[string][]byte{"/tls.crt": chain, "/tls.key": private}
}

func TestCertificatesAreRenewedWhileASessionLives(t *testing.T) {
	ca := mustIssuer(t, "ca")
	_, own := ca.mustIssue(t, shop)
	first, firstKey := ca.issue(t, mustKey(t), nil, shop)
	second, secondKey := ca.issue(t, mustKey(t), nil, shop)
	old, oldKey := ca.issue(t, mustKey(t), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, shop)
	disk := &folder{}
	o := mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}})
	p := New(Config{Own: Pair{Text{Path: "/tls.crt"}, Text{Path: "/tls.key"}}, Read: disk.read})
	a := mustAgent(t, p, o.dial)
	shows := func(what string, want []byte) {
		t.Helper()
		der, _ := pem.Decode(want)
		if _, got := meet(t, a.Addr(), insecure(shop)); got.err != "" || got.leaf != string(der.Bytes) {
			t.Errorf("%s: %v, another certificate", what, got.err)
		}
	}
	later := func() { p.looked.Store(time.Now().Add(-lookEvery).UnixNano()) }

	disk.put(first, firstKey)
	if err := p.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	reads := disk.reads
	shows("at first", first)
	disk.put(second, secondKey)
	shows("soon after", first)
	if disk.reads != reads {
		t.Error("files are read again too soon")
	}
	later()
	shows("renewed", second)
	for what, pair := range map[string][2][]byte{"half written": {first, secondKey}, "gone": {}, "expired": {old, oldKey}} {
		disk.put(pair[0], pair[1])
		later()
		shows(what, second)
	}
	disk.put(first, firstKey)
	later()
	shows("good again", first)
}

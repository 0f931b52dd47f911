package handshake

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

// The types of PEM blocks that matter.
const (
	pemCertificate  = "CERTIFICATE"
	pemKey          = "PRIVATE KEY"           // the end of all types of keys
	pemEncryptedKey = "ENCRYPTED PRIVATE KEY" // PKCS#8
)

// A source says in words where a text comes from: certificate /etc/tls/tls.crt, or the key.
type source struct{ what, path string }

func (s source) String() string {
	if s.path == "" {
		return s.what
	}
	return s.what + " " + s.path
}

// pair reads a certificate with its chain, and its key.
func pair(certificate source, chain []byte, key source, private []byte) (none tls.Certificate, err error) {
	if err := checkChain(certificate, chain); err != nil {
		return none, err
	}
	if err := checkKey(key, private); err != nil {
		return none, err
	}
	both, err := tls.X509KeyPair(chain, private)
	if err != nil {
		return none, unpaired(certificate, key, err)
	}
	return both, inTime(certificate, both.Leaf)
}

func checkChain(s source, text []byte) error {
	types, _ := blocks(text)
	for _, kind := range types {
		if kind == pemCertificate {
			return nil
		}
	}
	return noCertificate(s, types, text)
}

func noCertificate(s source, types []string, text []byte) error {
	advice := "a file that begins with -----BEGIN CERTIFICATE----- is meant"
	switch {
	case len(types) > 0 && strings.HasSuffix(types[0], pemKey):
		advice = "that is a key: are certificate and key exchanged?"
	case isDER(text):
		advice = "it is DER: `openssl x509 -inform der` makes PEM of it"
	}
	return &Error{Cause: s.String() + ": there is no certificate in it", Advice: advice}
}

func checkKey(s source, text []byte) error {
	types, encrypted := blocks(text)
	for _, kind := range types {
		if !strings.HasSuffix(kind, pemKey) {
			continue
		}
		if kind == pemEncryptedKey || encrypted {
			return &Error{Cause: s.String() + ": it is encrypted, and nobody could tell the agent the passphrase",
				Advice: "`openssl pkey` writes it in the clear: put that into a Secret, and name it with secret:"}
		}
		return nil
	}
	advice := "a file that begins with -----BEGIN PRIVATE KEY----- is meant"
	switch {
	case len(types) > 0 && types[0] == pemCertificate:
		advice = "that is a certificate: are certificate and key exchanged?"
	case isDER(text):
		advice = "it is DER: `openssl pkey -inform der` makes PEM of it"
	}
	return &Error{Cause: s.String() + ": there is no private key in it", Advice: advice}
}

// blocks lists the types of PEM blocks, and whether one is encrypted in the old way (RFC 1421).
func blocks(text []byte) (types []string, encrypted bool) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return types, encrypted
		}
		types = append(types, block.Type)
		encrypted = encrypted || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED")
	}
}

// isDER goes by the first byte, which is that of an ASN.1 SEQUENCE.
func isDER(text []byte) bool { return len(text) > 0 && text[0] == 0x30 }

func unpaired(certificate, key source, err error) error {
	text := strings.TrimPrefix(err.Error(), "tls: ")
	switch {
	case strings.Contains(text, "does not match"):
		return &Error{fmt.Sprintf("%s does not belong to %s", key, certificate), "the application's own certificate comes first in its file, and its chain after it", err}
	case strings.Contains(text, "private key"):
		return &Error{fmt.Sprintf("%s: %s", key, text), "keys of RSA, ECDSA and Ed25519 are known, in PKCS#8, PKCS#1 or SEC 1", err}
	}
	return &Error{fmt.Sprintf("%s: %s", certificate, text), "`openssl x509 -noout -text` shows what is in it", err}
}

func inTime(s source, leaf *x509.Certificate) error {
	now := time.Now()
	switch {
	case now.After(leaf.NotAfter):
		return &Error{Cause: fmt.Sprintf("%s expired on %s", s, leaf.NotAfter.UTC().Format(time.DateTime)), Advice: "clients would refuse it: renew it"}
	case now.Before(leaf.NotBefore):
		return &Error{Cause: fmt.Sprintf("%s is not valid before %s", s, leaf.NotBefore.UTC().Format(time.DateTime)), Advice: "is the node's clock right?"}
	}
	return nil
}

// authorities reads certificates of those who sign others.
func authorities(s source, t Text, text []byte) (*x509.CertPool, error) {
	if t.none() {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bytes.TrimSpace(text)) {
		types, _ := blocks(text)
		return nil, noCertificate(s, types, text)
	}
	return pool, nil
}

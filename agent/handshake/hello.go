package handshake

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

const (
	recordHeader    = 5 // type, version, length: RFC 8446 section 5.1
	recordHandshake = 22
	typeClientHello = 1
	// maxRecord is the longest one that a hello can come in: what is not encrypted has no more (RFC 8446 section 5.1).
	maxRecord = 1 << 14
	// fallback marks a hello as a second try with an older version (RFC 7507): the original knows whether that was needed.
	fallback = 0x5600
)

// Looks reports whether the first bytes of a client begin TLS, and whether they are enough to say so.
func Looks(first []byte) (begins, enough bool) {
	fits := func(i int, ok func(b byte) bool) bool { return len(first) <= i || ok(first[i]) }
	length := 0
	if len(first) >= recordHeader {
		length = int(first[3])<<8 | int(first[4])
	}
	switch {
	case !fits(0, func(b byte) bool { return b == recordHandshake }),
		!fits(1, func(b byte) bool { return b == 3 }), // of all versions from SSL 3.0 to TLS 1.3
		!fits(2, func(b byte) bool { return b <= 4 }),
		!fits(recordHeader, func(b byte) bool { return b == typeClientHello }),
		len(first) >= recordHeader && (length == 0 || length > maxRecord):
		return false, true
	}
	return len(first) > recordHeader, len(first) > recordHeader
}

// The protocols that the router knows. http/1.0 may stand beside them, as all HTTP/1 clients can do with an answer of 1.0.
const (
	protocolHTTP2 = "h2"
	protocolHTTP1 = "http/1.1"
)

// kept are the protocols of an ALPN list that the router knows, in its order, each once.
func kept(offered []string) (known []string) {
	for _, p := range offered {
		if (p == protocolHTTP2 || p == protocolHTTP1) && !slices.Contains(known, p) {
			known = append(known, p)
		}
	}
	return known
}

// beyond are extensions of a hello that change what follows, and that crypto/tls does not know or does not let us answer. A certificate after the
// handshake (RFC 8446 section 4.2.6) is not among them: curl always offers it, and hardly an original asks.
var beyond = map[uint16]string{
	1:  "small records",    // RFC 6066 section 4
	19: "a raw public key", // RFC 7250, of the client
	20: "a raw public key", // of the server
	42: "early data",       // RFC 8446 section 4.2.10; it has a ticket of the original's
}

// A hello is what a client asks for, as far as the original is asked for it.
type hello struct {
	name      string
	protocols []string
	min, max  uint16
	ciphers   []uint16 // of TLS 1.2 and older
}

// curves are those of crypto/tls.
var curves = []tls.CurveID{
	tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
}

// ciphers are all that crypto/tls knows below TLS 1.3. Which of them are good enough is for the original to say.
var ciphers = func() (all []uint16) {
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if s.SupportedVersions[0] != tls.VersionTLS13 {
			all = append(all, s.ID)
		}
	}
	return all
}()

// heed returns what a client asks for, or why we cannot serve it as the original might.
func heed(chi *tls.ClientHelloInfo) (hello, error) {
	h := hello{name: chi.ServerName, protocols: kept(chi.SupportedProtos)}
	for _, v := range chi.SupportedVersions {
		if v >= tls.VersionTLS10 && v <= tls.VersionTLS13 {
			if h.max = max(h.max, v); h.min == 0 || v < h.min {
				h.min = v
			}
		}
	}
	for _, id := range chi.CipherSuites {
		if slices.Contains(ciphers, id) {
			h.ciphers = append(h.ciphers, id)
		}
	}
	if len(h.ciphers) == 0 {
		h.min = max(h.min, tls.VersionTLS13)
	}
	for _, extension := range chi.Extensions {
		if what, ok := beyond[extension]; ok {
			return h, fmt.Errorf("the client asks for %s", what)
		}
	}
	switch {
	case len(chi.SupportedProtos) > 0 && len(h.protocols) == 0:
		return h, fmt.Errorf("the client asks for %s", strings.Join(chi.SupportedProtos, ", "))
	case h.max == 0 || h.max < h.min:
		return h, fmt.Errorf("the client asks for versions or ciphers that we do not know")
	case slices.Contains(chi.CipherSuites, fallback):
		return h, fmt.Errorf("the client tries an older version")
	case h.max == tls.VersionTLS13 && len(chi.SignatureSchemes) == 0:
		return h, fmt.Errorf("the client has no use for a certificate")
	case h.max == tls.VersionTLS13 && !slices.ContainsFunc(chi.SupportedCurves, func(c tls.CurveID) bool { return slices.Contains(curves, c) }):
		return h, fmt.Errorf("the client asks for curves that we do not know")
	}
	return h, nil
}

// takes reports whether a client can take a certificate, in a version or, if that is 0, in any.
func takes(chi *tls.ClientHelloInfo, own *tls.Certificate, version uint16) error {
	only := *chi
	only.ServerName = "" // many clients do not look at it: see likeness
	if version != 0 {
		only.SupportedVersions = []uint16{version}
	}
	if err := only.SupportsCertificate(own); err != nil {
		return fmt.Errorf("the client cannot take our certificate: %w", err)
	}
	return nil
}

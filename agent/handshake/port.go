// Package handshake takes the original's place in TLS: it ends a client's TLS with the original's own certificate, and begins it
// anew to the original, asking for what the client asked for. It never looks into a connection that no configuration names, and one that it
// could not serve as the original would passes whole, TLS end to end.
//
// # What a client notices
//
// Nothing is answered before the original has: it is shown the client's name (SNI), its protocols (ALPN), its versions and its ciphers, and what it picks
// is what the client gets. So a client meets the protocol, the version and the refusals that it meets without us. Where the original cannot be asked in the
// client's place (it refuses, it asks for a certificate that nobody gave us, it shows another one than ours) the client's own bytes go to it, on a new connection.
//
// Not the same are: which of the ciphers of TLS 1.3 and of the curves are taken; session tickets; what extensions do that crypto/tls does
// not know. Encrypted ClientHello is taken for its outer part, as by any server without keys for it (browsers send something like it to all).
package handshake

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is how often files are read again. Those who rotate certificates do so hours before the old ones end.
const lookEvery = 10 * time.Second

// A Text is PEM, or where it lies in the target's files; the zero Text is none.
type Text struct {
	Path string
	PEM  []byte
}

func (t Text) none() bool { return t.Path == "" && len(t.PEM) == 0 }

// A Pair is a certificate with its chain, and the key to it.
type Pair struct{ Certificate, Key Text }

func (p Pair) none() bool { return p.Certificate.none() && p.Key.none() }

// Verify says what clients have to show.
type Verify uint8

// What is asked of clients.
const (
	VerifyNone    Verify = iota // nothing
	VerifyRequest               // a certificate; they may have none
	VerifyRequire               // a certificate
)

// Config says how to take the original's place on a port. Own is required, the zero value of all else works.
type Config struct {
	Port uint16 // for words
	Own  Pair   // what clients see

	Clients  Verify
	ClientCA Text // who may have signed certificates of clients; none: anybody, where one is only requested

	Original     Pair   // what the original sees, if it asks
	Anonymous    bool   // without Original: it sees none, although it asks
	OriginalCA   Text   // who must have signed the original's certificate; none: it is not verified
	OriginalName string // the name that must be in it; empty: the one that the client asked for

	// Read returns a file of the target. Only needed where a Text has a Path.
	Read func(path string) ([]byte, error)
}

// A Port ends TLS on one port. It is safe for concurrent use and needs no closing.
type Port struct {
	config  Config
	now     atomic.Pointer[material] // nil until something good was read
	looked  atomic.Int64             // when, in Unix nanoseconds
	looking atomic.Bool

	// answers is what the original picked last, by what it was offered, for the time when it is not there. Few offers are possible: see kept.
	answers sync.Map
}

// New returns the TLS of a port. Nothing is read yet: see Check.
func New(config Config) *Port { return &Port{config: config} }

// Check reads all that the configuration names, and says what is wrong with it: an *Error with a hint.
func (p *Port) Check(context.Context) error {
	_, err := p.look()
	return err
}

// current returns what holds. Of files that changed for the worse the last good ones hold.
func (p *Port) current() (*material, error) {
	m := p.now.Load()
	if m != nil && (!p.config.hasFiles() || time.Now().UnixNano()-p.looked.Load() < int64(lookEvery)) {
		return m, nil
	}
	// One connection looks; the others need not wait for files that may be far away.
	if m != nil && !p.looking.CompareAndSwap(false, true) {
		return m, nil
	}
	fresh, err := p.look()
	p.looking.Store(false)
	if err != nil && m != nil {
		return m, nil
	}
	return fresh, err
}

func (p *Port) look() (*material, error) {
	p.looked.Store(time.Now().UnixNano())
	texts, err := p.config.texts()
	if err != nil {
		return nil, err
	}
	if m := p.now.Load(); m != nil && slices.EqualFunc(m.texts, texts, bytes.Equal) {
		return m, nil
	}
	m, err := p.config.parse(texts)
	if err != nil {
		return nil, err
	}
	p.now.Store(m)
	return m, nil
}

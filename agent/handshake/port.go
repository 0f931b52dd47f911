// Package handshake takes the original's place in TLS: it ends a client's TLS with the original's own certificate, and begins it
// anew to the original, asking for what the client asked for. It never looks into a connection that no configuration names, and one that it
// could not serve as the original would passes whole, TLS end to end.
package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
)

// A Text is PEM, or where it lies in the target's files; the zero Text is none.
type Text struct {
	Path string
	PEM  []byte
}

// A Pair is a certificate with its chain, and the key to it.
type Pair struct{ Certificate, Key Text }

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
type Port struct{ config Config }

// New returns the TLS of a port. Nothing is read yet: see Check.
func New(config Config) *Port { return &Port{config: config} }

// Check reads all that the configuration names, and says what is wrong with it: an *Error with a hint.
func (p *Port) Check(context.Context) error { return errors.New("not yet") }

// A Dialer connects to the original, without TLS.
type Dialer func(ctx context.Context) (net.Conn, error)

// Try shakes hands with the original as for a client that asks for nothing special, and says why connections could not be looked into: an *Error with
// a hint, which is to be told and refuses nothing.
func (p *Port) Try(ctx context.Context, dial Dialer) error { return errors.New("not yet") }

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
	// Why a connection is raw. An *Error is for the developer to know, once; anything else is the client's own wish.
	Why error
}

// Dial returns the connection to the original that goes with the client's: in TLS with the same protocol, if the client's TLS ended. The first is there
// already; later ones are made.
func (r *Result) Dial(ctx context.Context) (net.Conn, error) { return nil, errors.New("not yet") }

// Close lets go of what was not dialled.
func (r *Result) Close() error { return nil }

// Accept takes a client's first bytes and decides. On an error the client could not be served, and is closed; it is told its reason where TLS has
// a word for it.
func (p *Port) Accept(ctx context.Context, client net.Conn, dial Dialer) (*Result, error) {
	return nil, errors.New("not yet")
}

// A Conn is the inside of TLS. Its ends are those of the connection around it: it closes with a reset if it is told to, and passes the way in which the
// other side of the agent ended: with a word, or without.
type Conn struct {
	net.Conn
	tls *tls.Conn
}

// ConnectionState says what was agreed on: the server's name, the protocol, the peer's certificates.
func (c *Conn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// Looks reports whether the first bytes of a client begin TLS, and whether they are enough to say so.
func Looks(first []byte) (begins, enough bool) { return false, false }

// Probe reports whether the original speaks TLS. It takes a second at most.
func Probe(ctx context.Context, dial Dialer) (bool, error) { return false, errors.New("not yet") }

// An Error says in one line what is wrong, and in another what to do.
type Error struct {
	Cause, Advice string
	Err           error // for errors.Is; may be nil
}

func (e *Error) Error() string { return e.Cause }

// Hint returns one line for the developer.
func (e *Error) Hint() string { return e.Advice }

func (e *Error) Unwrap() error { return e.Err }

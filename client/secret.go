package client

import (
	"context"
	"fmt"
	"syscall"

	"github.com/magpie-k8s/magpie/wire"
)

// An Encryption says how agents take the original's place in TLS on a port.
type Encryption struct {
	Own Pair // what clients see

	Clients  ClientAuth
	ClientCA Authority // who signed certificates of clients

	Original     Pair      // what the original sees, if it asks; the zero Pair is none
	Anonymous    bool      // none, although it asks
	OriginalCA   Authority // who signed the original's certificate; zero: it is not verified
	OriginalName string    // in that certificate; empty: the one that the client asks for
}

// A Pair is a certificate with its key: as two files of the target, or as a Secret.
type Pair struct{ Certificate, Key, Secret string }

// An Authority is a file of the target, or ca.crt of a Secret; the zero value is none.
type Authority struct{ Path, Secret string }

// ClientAuth says what clients have to show.
type ClientAuth uint8 //nolint:revive // of the target's clients, not of this package

// What clients are asked for, by its number on the wire.
const (
	AuthNone    ClientAuth = iota // nothing
	AuthRequest                   // a certificate; they may have none
	AuthRequire                   // a certificate
)

// The entries of a Secret, as Kubernetes names them.
const (
	entryCertificate = "tls.crt"
	entryKey         = "tls.key"
	entryCA          = "ca.crt"
)

// ReadSecret returns the entries of a Secret of the target's namespace: see cluster.Cluster.Secret.
type ReadSecret func(ctx context.Context, name string) (map[string][]byte, error)

// message is the encryption as an agent is told of it. Secrets are read now, each once, so that a replica that comes later gets what holds then.
func (e *Encryption) message(ctx context.Context, read ReadSecret) (*wire.Tls, error) {
	if e == nil {
		return nil, nil
	}
	s := &secrets{read: read, known: map[string]map[string][]byte{}}
	m := &wire.Tls{
		Own: s.certificate(ctx, e.Own), Clients: wire.ClientAuth(e.Clients), ClientCa: s.authority(ctx, e.ClientCA),
		Original: s.certificate(ctx, e.Original), OriginalCa: s.authority(ctx, e.OriginalCA), OriginalName: e.OriginalName, Anonymous: e.Anonymous,
	}
	return m, s.err
}

// secrets reads what a message needs. The first error stays.
type secrets struct {
	read  ReadSecret
	known map[string]map[string][]byte
	err   error
}

func (s *secrets) certificate(ctx context.Context, p Pair) *wire.Certificate {
	if p == (Pair{}) {
		return nil
	}
	return &wire.Certificate{Chain: s.text(ctx, p.Certificate, p.Secret, entryCertificate), Key: s.text(ctx, p.Key, p.Secret, entryKey)}
}

func (s *secrets) authority(ctx context.Context, a Authority) *wire.Pem {
	if a == (Authority{}) {
		return nil
	}
	return s.text(ctx, a.Path, a.Secret, entryCA)
}

func (s *secrets) text(ctx context.Context, path, secret, entry string) *wire.Pem {
	if secret == "" {
		return &wire.Pem{Path: path}
	}
	content := s.entries(ctx, secret)[entry]
	if s.err == nil && len(content) == 0 {
		s.err = &wire.Error{
			Errno: syscall.ENOENT, Cause: fmt.Sprintf("secret %s has no %s", secret, entry),
			Advice: "a Secret of type kubernetes.io/tls has " + entryCertificate + " and " + entryKey + ", and some have " + entryCA,
		}
	}
	return &wire.Pem{Content: content}
}

func (s *secrets) entries(ctx context.Context, name string) map[string][]byte {
	if all, ok := s.known[name]; ok || s.err != nil {
		return all
	}
	if s.read == nil {
		s.err = &wire.Error{
			Errno: syscall.EINVAL, Cause: fmt.Sprintf("secret %s: the target is in no cluster", name),
			Advice: "name certificate and key as files of the target",
		}
		return nil
	}
	all, err := s.read(ctx, name)
	if err != nil {
		s.err = err
	}
	s.known[name] = all
	return all
}

// secret reads a Secret of the target's namespace.
func (s *Session) secret() ReadSecret {
	if s.cfg.Cluster == nil {
		return nil
	}
	return func(ctx context.Context, name string) (map[string][]byte, error) {
		return s.cfg.Cluster.Secret(ctx, "", name)
	}
}

package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync/atomic"
)

// maxSessions bounds the sessions with the original that are kept to be resumed: one for each name and each kind of client.
const maxSessions = 64

// material is what was read at one time. It is not changed.
type material struct {
	texts       [][]byte
	own         tls.Certificate
	original    *tls.Certificate // nil: none
	clientCAs   *x509.CertPool
	originalCAs *x509.CertPool

	server   *tls.Config            // holds the keys of tickets: they end with what they were given for
	sessions tls.ClientSessionCache // with the original
	accepted atomic.Bool            // the original has taken its certificate before
}

// The texts of a configuration, by their place in a list.
const (
	ownCertificate = iota
	ownKey
	clientCA
	originalCertificate
	originalKey
	originalCA
)

// names are for words.
var names = [...]string{"certificate", "key", "clients.ca", "original.certificate", "original.key", "original.ca"}

func (c *Config) list() []Text {
	return []Text{c.Own.Certificate, c.Own.Key, c.ClientCA, c.Original.Certificate, c.Original.Key, c.OriginalCA}
}

func (c *Config) hasFiles() bool {
	for _, t := range c.list() {
		if t.Path != "" {
			return true
		}
	}
	return false
}

// texts reads all that there is.
func (c *Config) texts() ([][]byte, error) {
	var all [][]byte
	for i, t := range c.list() {
		text := t.PEM
		if t.Path != "" {
			if c.Read == nil {
				return nil, &Error{"read " + names[i] + " " + t.Path + ": the target has no files", "name the Secret that it comes from with secret:", errors.ErrUnsupported}
			}
			var err error
			if text, err = c.Read(t.Path); err != nil {
				return nil, unread(names[i], t.Path, err)
			}
		}
		all = append(all, text)
	}
	return all, nil
}

// at says where a text lies, for words.
func (c *Config) at(i int) source {
	return source{names[i], c.list()[i].Path}
}

// parse makes sense of texts.
func (c *Config) parse(texts [][]byte) (_ *material, err error) {
	m := &material{texts: texts, sessions: tls.NewLRUClientSessionCache(maxSessions)}
	if m.own, err = pair(c.at(ownCertificate), texts[ownCertificate], c.at(ownKey), texts[ownKey]); err != nil {
		return nil, err
	}
	if !c.Original.none() {
		own, err := pair(c.at(originalCertificate), texts[originalCertificate], c.at(originalKey), texts[originalKey])
		if err != nil {
			return nil, err
		}
		m.original = &own
	}
	if m.clientCAs, err = authorities(c.at(clientCA), c.ClientCA, texts[clientCA]); err != nil {
		return nil, err
	}
	if m.originalCAs, err = authorities(c.at(originalCA), c.OriginalCA, texts[originalCA]); err != nil {
		return nil, err
	}
	if c.Clients == VerifyRequire && m.clientCAs == nil {
		return nil, &Error{Cause: "clients.verify: nobody could be accepted without clients.ca", Advice: "name the authorities that sign certificates of clients"}
	}
	m.server = &tls.Config{MinVersion: tls.VersionTLS10, CipherSuites: ciphers, GetConfigForClient: decide}
	return m, nil
}

// auth is what is asked of clients.
func (c *Config) auth() tls.ClientAuthType {
	switch {
	case c.Clients == VerifyRequire:
		return tls.RequireAndVerifyClientCert
	case c.Clients == VerifyNone:
		return tls.NoClientCert
	case c.ClientCA.none():
		return tls.RequestClientCert
	}
	return tls.VerifyClientCertIfGiven
}

package config

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/magpie-k8s/magpie/internal/nearest"
)

// TLS says how agents take the original's place in TLS on a port, so that a filter can look inside: one entry of the `tls:` section. What
// begins with a slash is a file of the target; a secret is one of the target's namespace.
type TLS struct {
	Port     uint16       `json:"port"`
	Keys                  // what clients see; required
	Clients  *TLSClients  `json:"clients,omitempty"`  // they are asked for nothing if nil
	Original *TLSOriginal `json:"original,omitempty"` // it sees no certificate and is not verified if nil
}

// Keys are a certificate and its key, as two files or as a secret.
type Keys struct {
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	Secret      string `json:"secret,omitempty"` // with tls.crt, tls.key and perhaps ca.crt
}

// TLSClients is what clients have to show.
type TLSClients struct {
	Verify string `json:"verify"`       // none, request or require
	CA     string `json:"ca,omitempty"` // a file; else ca.crt of the secret
}

// TLSOriginal is what the original is shown, and has to show.
type TLSOriginal struct {
	Keys
	Anonymous  bool   `json:"anonymous,omitempty"` // it asks for a certificate and can do without
	Verify     bool   `json:"verify,omitempty"`
	CA         string `json:"ca,omitempty"`         // a file; else ca.crt of the secret
	ServerName string `json:"serverName,omitempty"` // in its certificate; else what the client asks for
}

// What clients are asked for.
const (
	VerifyNone    = "none"
	VerifyRequest = "request"
	VerifyRequire = "require"
)

// IsZero reports whether there are none.
func (k Keys) IsZero() bool { return k == Keys{} }

// ForPort returns the entry of a port; nil if there is none.
func (c Config) ForPort(port uint16) *TLS {
	for i := range c.TLS {
		if c.TLS[i].Port == port {
			return &c.TLS[i]
		}
	}
	return nil
}

// Secrets lists the names of the secrets that have to be read for it, each once.
func (t TLS) Secrets() []string {
	names := map[string]struct{}{}
	for _, k := range []Keys{t.Keys, t.original().Keys} {
		if k.Secret != "" {
			names[k.Secret] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (t TLS) original() TLSOriginal {
	if t.Original == nil {
		return TLSOriginal{}
	}
	return *t.Original
}

// checkTLS returns what could never work.
func checkTLS(all []TLS) error {
	seen := map[uint16]int{}
	for i, t := range all {
		if first, twice := seen[t.Port]; twice {
			return at(i, &fault{fmt.Sprintf("port: %d is that of tls[%d] already", t.Port, first), fs.ErrExist, "an entry says all of a port"})
		}
		seen[t.Port] = i
		if err := t.check(); err != nil {
			return at(i, err)
		}
	}
	return nil
}

func at(i int, err error) error { return fmt.Errorf("tls[%d]: %w", i, err) }

func (t TLS) check() error {
	if t.Port == 0 {
		return &fault{"port: it is missing", fs.ErrInvalid, "the port on which the original listens, for example 8443"}
	}
	if t.Keys.IsZero() {
		return &fault{"there is no certificate", fs.ErrInvalid, "certificate and key name files of the target, or secret a Secret of its namespace"}
	}
	if err := t.Keys.check(""); err != nil {
		return err
	}
	if err := t.checkClients(); err != nil {
		return err
	}
	return t.checkOriginal()
}

func (k Keys) check(section string) error {
	switch {
	case k.Secret != "" && (k.Certificate != "" || k.Key != ""):
		return &fault{section + "secret: files are given, too", fs.ErrInvalid, "either secret, or certificate and key"}
	case k.Certificate != "" && k.Key == "":
		return &fault{section + "key: it is missing", fs.ErrInvalid, "the file with the private key of the certificate"}
	case k.Key != "" && k.Certificate == "":
		return &fault{section + "certificate: it is missing", fs.ErrInvalid, "the file with the certificate of the key, chain included"}
	}
	if k.Secret != "" && !couldBeName(k.Secret) {
		return &fault{fmt.Sprintf("%ssecret: %q cannot be a name in Kubernetes", section, k.Secret), fs.ErrInvalid, "a name is lower-case letters, digits, '-' and '.'"}
	}
	if err := checkFile(section+"certificate", k.Certificate); err != nil {
		return err
	}
	return checkFile(section+"key", k.Key)
}

// couldBeName is looser than RFC 1123: the API server says the rest.
func couldBeName(name string) bool {
	return len(name) <= 253 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && name[0] != '-' && name[0] != '.'
}

func checkFile(key, file string) error {
	if file != "" && !path.IsAbs(file) {
		return &fault{fmt.Sprintf("%s: %q is no absolute path", key, file), fs.ErrInvalid, "files are those of the target, for example /etc/tls/tls.crt"}
	}
	return nil
}

func (t TLS) checkClients() error {
	c := t.Clients
	if c == nil {
		return nil
	}
	words := []string{VerifyNone, VerifyRequest, VerifyRequire}
	switch {
	case c.Verify == "":
		return &fault{"clients.verify: it is missing", fs.ErrInvalid, "none, request or require"}
	case !slices.Contains(words, c.Verify):
		hint := "none, request or require"
		if near := nearest.Word(c.Verify, words); near != "" {
			hint = "did you mean " + near + "?"
		}
		return &fault{fmt.Sprintf("clients.verify: there is no %q", c.Verify), fs.ErrInvalid, hint}
	case c.Verify == VerifyNone && c.CA != "":
		return &fault{"clients.ca: nobody is verified", fs.ErrInvalid, "set clients.verify to request or require"}
	case c.Verify == VerifyRequire && c.CA == "" && t.Secret == "":
		return &fault{"clients.ca: it is missing", fs.ErrInvalid, "the file with the authorities that sign certificates of clients"}
	}
	return checkFile("clients.ca", c.CA)
}

func (t TLS) checkOriginal() error {
	o := t.original()
	switch {
	case o.Anonymous && !o.Keys.IsZero():
		return &fault{"original.anonymous: a certificate is given", fs.ErrInvalid, "leave one of them out"}
	case !o.Verify && o.CA != "":
		return &fault{"original.ca: nobody is verified", fs.ErrInvalid, "set original.verify to true"}
	case !o.Verify && o.ServerName != "":
		return &fault{"original.serverName: nobody is verified", fs.ErrInvalid, "set original.verify to true"}
	case o.Verify && o.CA == "" && o.Secret == "" && t.Secret == "":
		return &fault{"original.ca: it is missing", fs.ErrInvalid, "the file with the authority that signed the original's certificate"}
	}
	if err := o.Keys.check("original."); err != nil {
		return err
	}
	return checkFile("original.ca", o.CA)
}

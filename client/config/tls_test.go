package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const wholeTLS = `tls:
  - port: 8443
    certificate: /etc/ems/tls/tls.crt
    key: /etc/ems/tls/tls.key
  - port: 9443
    secret: ems-tls
    clients: {verify: require, ca: /etc/ems/tls/ca.crt}
    original: {secret: ems-client, verify: true, ca: /etc/ems/ca.crt, serverName: ems.example}
  - port: 10443
    secret: ems-tls
    clients: {verify: request}
    original: {anonymous: true, verify: true}
`

func TestAFileSaysHowTLSIsEnded(t *testing.T) {
	c, err := parse([]byte(wholeTLS))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.ForPort(8443); got == nil || got.Certificate != "/etc/ems/tls/tls.crt" || got.Key != "/etc/ems/tls/tls.key" || got.Clients != nil || got.Original != nil {
		t.Errorf("%+v", got)
	}
	got := c.ForPort(9443)
	if got == nil || got.Secret != "ems-tls" || *got.Clients != (TLSClients{VerifyRequire, "/etc/ems/tls/ca.crt"}) ||
		*got.Original != (TLSOriginal{Keys: Keys{Secret: "ems-client"}, Verify: true, CA: "/etc/ems/ca.crt", ServerName: "ems.example"}) {
		t.Errorf("%+v", got)
	}
	if names := got.Secrets(); !slices.Equal(names, []string{"ems-client", "ems-tls"}) {
		t.Errorf("secrets %v", names)
	}
	if got := c.ForPort(80); got != nil {
		t.Errorf("port 80 has %+v", got)
	}
}

func TestTLSThatCannotWorkIsAnErrorThatSaysWhere(t *testing.T) {
	const files = "certificate: /c, key: /k"
	for _, c := range []struct{ text, cause, hint string }{
		{"tls: {port: 8443}", "tls: a mapping stands where a list belongs", ""},
		{"tls: [{" + files + "}]", "tls[0]: port: it is missing", "8443"},
		{"tls: [{port: 70000, " + files + "}]", "port: 70000 is no port", ""},
		{"tls: [{port: https, " + files + "}]", "port: a string stands where a number belongs", ""},
		{"tls: [{prot: 8443}]", `unknown key "tls[0].prot"`, "did you mean port?"},
		{"tls: [{port: 8443, cert: /c}]", `unknown key "tls[0].cert"`, ""},
		{"tls: [{port: 8443, clients: {verfy: none}}]", `unknown key "tls[0].clients.verfy"`, "did you mean verify?"},
		{"tls: [{port: 8443, original: {sercet: a}}]", `unknown key "tls[0].original.sercet"`, "did you mean secret?"},
		{"tls: [{port: 8443}]", "tls[0]: there is no certificate", "certificate and key name files"},
		{"tls: [{port: 8443, certificate: /c}]", "tls[0]: key: it is missing", "private key"},
		{"tls: [{port: 8443, key: /k}]", "tls[0]: certificate: it is missing", "chain included"},
		{"tls: [{port: 8443, secret: a, key: /k}]", "tls[0]: secret: files are given, too", "either"},
		{"tls: [{port: 8443, secret: A_B}]", `secret: "A_B" cannot be a name in Kubernetes`, "lower-case"},
		{"tls: [{port: 8443, certificate: tls.crt, key: /k}]", `certificate: "tls.crt" is no absolute path`, "files are those of the target"},
		{"tls: [{port: 1, " + files + "}, {port: 1, " + files + "}]", "tls[1]: port: 1 is that of tls[0] already", "an entry says all"},
		{"tls: [{port: 1, " + files + ", clients: {}}]", "clients.verify: it is missing", "none, request or require"},
		{"tls: [{port: 1, " + files + ", clients: {verify: requierd}}]", `clients.verify: there is no "requierd"`, "did you mean require?"},
		{"tls: [{port: 1, " + files + ", clients: {verify: always}}]", `clients.verify: there is no "always"`, "none, request or require"},
		{"tls: [{port: 1, " + files + ", clients: {verify: none, ca: /ca}}]", "clients.ca: nobody is verified", "request or require"},
		{"tls: [{port: 1, " + files + ", clients: {verify: require}}]", "clients.ca: it is missing", "authorities"},
		{"tls: [{port: 1, " + files + ", clients: {verify: require, ca: ca}}]", `clients.ca: "ca" is no absolute path`, ""},
		{"tls: [{port: 1, " + files + ", original: {secret: a, anonymous: true}}]", "original.anonymous: a certificate is given", "leave one"},
		{"tls: [{port: 1, " + files + ", original: {certificate: /c}}]", "original.key: it is missing", ""},
		{"tls: [{port: 1, " + files + ", original: {ca: /ca}}]", "original.ca: nobody is verified", "original.verify"},
		{"tls: [{port: 1, " + files + ", original: {serverName: a}}]", "original.serverName: nobody is verified", "original.verify"},
		{"tls: [{port: 1, " + files + ", original: {verify: true}}]", "original.ca: it is missing", "authority"},
		{"tls: [{port: 1, " + files + ", original: {verify: require}}]", "original.verify: a string stands where true or false belongs", ""},
	} {
		_, err := parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.cause) {
			t.Errorf("%s: %v, want %q", c.text, err, c.cause)
		}
		var hinted interface{ Hint() string }
		if c.hint != "" && (!errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), c.hint)) {
			t.Errorf("%s: hint of %v, want %q", c.text, err, c.hint)
		}
	}
}

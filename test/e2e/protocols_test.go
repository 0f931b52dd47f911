//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testcert"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

func TestRequestsInHTTP2AreTakenOneByOne(t *testing.T) {
	s, dev := openShop(t, 2), newDeveloper(t)
	m := dev.steal(t, s, "me")
	for header, by := range map[string]string{"x-user: me": "me", "x-user: you": "original"} {
		for _, ip := range s.ips(t) {
			a, err := s.askHTTP2("http://"+ip+":8080/", header)
			if err != nil || a.By != by || a.Proto != "HTTP/2.0" {
				t.Errorf("%s: %+v, %v", header, a, err)
			}
		}
	}
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

func TestTheCommandMaySpeakAnotherProtocolThanTheOriginal(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	for protocol, want := range map[string]string{"h1": "HTTP/1.1", "h2c": "HTTP/2.0"} {
		m := dev.steal(t, s, "me", "--local-protocol", protocol)
		for _, ask := range []func(string, ...string) (answer, error){s.ask, s.askHTTP2} {
			a, err := ask("http://"+s.ips(t)[0]+":8080/", "x-user: me")
			if err != nil || a.By != "me" || a.Proto != want {
				t.Errorf("%s: %+v, %v", protocol, a, err)
			}
		}
		m.Stop(t)
	}
	s.mustBeUnharmed(t, 0)
}

// secureManifest is a second Deployment of the shop, which ends TLS itself.
const secureManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: secure, labels: {app: secure}}
spec:
  selector: {matchLabels: {app: secure}}
  template:
    metadata: {labels: {app: secure}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: shop
        image: ` + shopImage + `
        args: [serve, original, ":8443", /tls/tls.crt, /tls/tls.key]
        ports: [{containerPort: 8443, name: https}]
        readinessProbe: {httpGet: {path: /healthz, port: https, scheme: HTTPS}, periodSeconds: 1}
        volumeMounts: [{name: tls, mountPath: /tls, readOnly: true}]
      volumes: [{name: tls, secret: {secretName: secure}}]
---
apiVersion: v1
kind: Service
metadata: {name: secure}
spec: {selector: {app: secure}, ports: [{port: 443, targetPort: https}]}
`

// openSecure adds it to the shop's namespace. It returns the files with the certificate and the key.
func openSecure(tb testing.TB, s *shop, dev *developer) (certificate, key string) {
	tb.Helper()
	certificate, key = testcert.Write(tb, dev.folder, "secure")
	mustKubectl(tb, "-n", s.namespace, "create", "secret", "tls", "secure", "--cert", certificate, "--key", key)
	apply(tb, s.namespace, secureManifest)
	rollout(tb, s.namespace, "deploy/secure")
	within(tb, 30*time.Second, func() error {
		_, err := s.ask("https://secure/")
		return err
	})
	return certificate, key
}

// secured steals from it, with a local shop that ends TLS with the same certificate.
func (d *developer) secured(tb testing.TB, s *shop, certificate, key string) *testrun.Program {
	tb.Helper()
	return d.magpie(tb, "exec", "--target", "deploy/secure", "-n", s.namespace, "--steal", "--linger", "2s", "--http-header-filter", "x-user: me",
		"--", filepath.Join(programs, "shop"), "serve", "me", ":8443", certificate, key)
}

func TestAFilterLooksIntoTLSWhoseCertificateIsNamed(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	certificate, key := openSecure(t, s, dev)
	for name, settings := range map[string]string{
		"a secret":            "tls: [{port: 8443, secret: secure}]",
		"files of the target": "tls: [{port: 8443, certificate: /tls/tls.crt, key: /tls/tls.key}]",
	} {
		dev.settle(t, settings)
		m := dev.secured(t, s, certificate, key)
		m.WaitFor(t, "ready")
		for header, by := range map[string]string{"x-user: me": "me", "x-user: you": "original"} {
			if a, err := s.ask("https://secure/", header); err != nil || a.By != by || a.Proto != "HTTP/1.1" {
				t.Errorf("%s: %s: %+v, %v", name, header, a, err)
			}
			if a, err := s.askHTTP2("https://secure/", header); err != nil || a.By != by || a.Proto != "HTTP/2.0" {
				t.Errorf("%s: %s: %+v, %v", name, header, a, err)
			}
		}
		m.Stop(t)
	}
	mustLeaveNothing(t, s.namespace, soon)
}

func TestAFilterThatCannotLookIntoTLSSaysSo(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	certificate, key := openSecure(t, s, dev)
	m := dev.secured(t, s, certificate, key)
	m.WaitFor(t, "port 8443 of deploy/secure is TLS: a filter cannot look inside")
	if a, err := s.ask("https://secure/", "x-user: me"); err != nil || a.By != "original" {
		t.Errorf("%+v, %v", a, err)
	}
}

// settle writes his project's settings.
func (d *developer) settle(tb testing.TB, settings string) {
	tb.Helper()
	folder := filepath.Join(d.folder, ".magpie")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "magpie.yaml"), []byte(settings), 0o644); err != nil {
		tb.Fatal(err)
	}
}

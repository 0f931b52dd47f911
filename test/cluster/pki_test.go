package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestEachMachineTrustsTheOthersAndHasOnlyItsOwnKeys(t *testing.T) {
	keys, err := newPKI()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, m := range machines() {
		if err := keys.write(m, filepath.Join(root, m.Name)); err != nil {
			t.Fatal(err)
		}
	}
	authority, err := os.ReadFile(filepath.Join(root, "node1/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	for file, names := range map[string][]string{
		"control/apiserver": {"198.19.255.2", "198.19.192.1", "kubernetes.default.svc"},
		"node1/kubelet":     {"198.19.255.11"},
		"node2/kubelet":     {"198.19.255.12"},
	} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(root, file+".crt"), filepath.Join(root, file+".key"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
				t.Errorf("%s as %s: %v", file, name, err)
			}
		}
	}
	node, err := filepath.Glob(filepath.Join(root, "node1/*.key"))
	if err != nil || !slices.Equal(node, []string{filepath.Join(root, "node1/kubelet.key")}) {
		t.Errorf("node1 has the keys %v, %v", node, err)
	}
}

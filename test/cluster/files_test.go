package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A fact that is missing from a template is an error when it is rendered; one that is empty shows here.
func TestMachinesGetTheirOwnFacts(t *testing.T) {
	dir := t.TempDir()
	for _, n := range nodes() {
		if err := renderTree("files/node", filepath.Join(dir, n.Name), factsFor(n)); err != nil {
			t.Fatal(err)
		}
		if err := renderTree("files/all", filepath.Join(dir, n.Name), factsFor(n)); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{
		"node1/etc/cni/net.d/10-pods.conflist": `"subnet": "198.19.128.0/24"`,
		"node2/etc/cni/net.d/10-pods.conflist": `"subnet": "198.19.129.0/24"`,
		"node2/etc/kubernetes/proxy.yaml":      "hostnameOverride: node2",
		"node1/etc/kubernetes/kubelet.yaml":    `clusterDNS: ["198.19.192.10"]`,
		"node1/etc/containerd/config.toml":     `sandbox_image = "magpie.test/pause:1"`,
		"node2/etc/nftables.conf":              "ip saddr 198.19.128.0/18 ip daddr != 198.19.128.0/18 masquerade",
		"node1/etc/hosts":                      "198.19.255.12 node2\n",
	} {
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Error(err)
		}
		if !strings.Contains(string(content), want) {
			t.Errorf("%s has no %q:\n%s", file, want, content)
		}
	}
}

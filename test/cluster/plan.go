package main

import "net/netip"

// All addresses are out of 198.18.0.0/15, the range that RFC 2544 keeps free for tests. Nodes, pods and Services share its last quarter,
// 198.19.128.0/17, and nothing in there has a route to anywhere else.
const (
	clusterNetwork   = "198.19.128.0/17"
	hostAddress      = "198.19.255.1"
	fabricBits       = "/24"
	apiServerURL     = "https://198.19.255.2:6443"
	podNetwork       = "198.19.128.0/18"
	serviceNetwork   = "198.19.192.0/20"
	firstService     = "198.19.192.1" // that of Service "kubernetes"
	dnsAddress       = "198.19.192.10"
	developerAddress = "198.19.255.100" // and above: for tests that put namespaces of their own on the bridge

	kubernetesVersion = "v1.33.13" // as in kube/go.mod
)

// machine is what would be a computer in a real cluster: a set of namespaces with an address on the fabric.
type machine struct {
	Name    string
	Address netip.Addr
	Pods    netip.Prefix // zero on the machine of the control plane, which runs no pods
}

func machines() []machine {
	return []machine{control(), nodes()[0], nodes()[1]}
}

func control() machine {
	return machine{Name: "control", Address: netip.MustParseAddr("198.19.255.2")}
}

func nodes() []machine {
	return []machine{
		{Name: "node1", Address: netip.MustParseAddr("198.19.255.11"), Pods: netip.MustParsePrefix("198.19.128.0/24")},
		{Name: "node2", Address: netip.MustParseAddr("198.19.255.12"), Pods: netip.MustParsePrefix("198.19.129.0/24")},
	}
}

func machineNamed(name string) (machine, bool) {
	for _, m := range machines() {
		if m.Name == name {
			return m, true
		}
	}
	return machine{}, false
}

// isNode reports whether the machine runs pods.
func (m machine) isNode() bool { return m.Pods.IsValid() }

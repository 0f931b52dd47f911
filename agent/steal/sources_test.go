package steal

import (
	"io"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// mustSet writes sysctls of a namespace of our own.
func mustSet(tb testing.TB, h *testnet.Host, name, value string) {
	tb.Helper()
	h.Do(tb, func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) })
}

func TestSourcePortsAreThoseThatNobodyElseChooses(t *testing.T) {
	h := testnet.Lone(t)
	mustSet(t, h, "ipv4/ip_local_port_range", "40000 40011")
	mustSet(t, h, "ipv4/ip_local_reserved_ports", "40003,40006-40007")
	var got []uint16
	h.Do(t, func() (err error) {
		got, err = freePorts()
		return err
	})
	slices.Sort(got)
	if want := []uint16{40001, 40005, 40009, 40011}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	mustSet(t, h, "ipv4/ip_local_reserved_ports", "40000-40011")
	if err := h.NS.Do(func() error { _, err := freePorts(); return err }); err == nil {
		t.Error("all ports are reserved, and some were free")
	}
}

func TestClaimedPortIsNeverASource(t *testing.T) {
	h := testnet.Lone(t)
	mustSet(t, h, "ipv4/ip_local_port_range", "40000 40003")
	r := mustOpen(t, h, "", 40001)
	for range 10 {
		src, err := r.sources.reserve(netip.IPv6Loopback(), false, r.claimed)
		if err != nil {
			t.Fatal(err)
		}
		if src.Port() != 40003 {
			t.Errorf("got %v", src)
		}
		if err := r.sources.release(src, false); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPassedConnectionsLeaveTheTargetItsPorts: the kernel gives a port that somebody bound by number to no connect(2), whatever its address.
func TestPassedConnectionsLeaveTheTargetItsPorts(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	mustSet(t, n.Target, "ipv4/ip_local_port_range", "40000 40031")
	r := mustOpen(t, n.Target, "", port)
	local := netip.AddrPortFrom(n.Target.Addr6, port)
	for i := range 16 {
		up, err := r.DialOriginal(t.Context(), netip.MustParseAddrPort("[fd18:7::1]:7777"), local)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		defer up.Close()
	}
	if _, err := r.DialOriginal(t.Context(), netip.MustParseAddrPort("[fd18:7::1]:7777"), local); err == nil {
		t.Error("a port was used twice")
	}
	mustListen(t, n.Client, port)
	for i := range 15 { // one of the 16 may be that of our listener
		c, err := dial(n.Target, netip.AddrPortFrom(n.Client.Addr6, port))
		if err != nil {
			t.Fatalf("the target's own connection %d: %v", i, err)
		}
		defer c.Close()
	}
}

// TestSourcesAreUsableAgainAtOnce: each connection is closed by us first, and so leaves a TIME_WAIT on our side.
func TestSourcesAreUsableAgainAtOnce(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	mustSet(t, n.Target, "ipv4/ip_local_port_range", "40000 40031")
	r := mustOpen(t, n.Target, "", port)
	for _, addr := range []netip.Addr{n.Target.Addr4, n.Target.Addr6, n.Target.Link, netip.IPv6Loopback()} {
		for i := range 100 {
			up, err := r.DialOriginal(t.Context(), netip.MustParseAddrPort("[fd18:7::1]:7777"), netip.AddrPortFrom(addr, port))
			if err != nil {
				t.Fatalf("%v, %d: %v", addr, i, err)
			}
			if err := up.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(up); err != nil {
				t.Fatal(err)
			}
			if err := up.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRestoredIPv4SourcesRotate(t *testing.T) {
	r := mustOpen(t, testnet.Lone(t), "")
	seen := make(map[netip.AddrPort]bool)
	ports := make(map[uint16]bool)
	for range 100_000 {
		src, err := r.sources.reserve(netip.Addr{}, true, r.claimed)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.sources.release(src, false); err != nil {
			t.Fatal(err)
		}
		if ip := src.Addr().As4(); seen[src] || ip[0] != 127 || ip[1] != 83 {
			t.Fatalf("got %v", src)
		}
		seen[src], ports[src.Port()] = true, true
	}
	if len(ports) > rotatingPorts {
		t.Errorf("%d ports, want %d", len(ports), rotatingPorts)
	}
}

// TestRememberedClientsAreForgottenForNewConnections: all ports of an address may belong to connections that closed within rememberFor.
func TestRememberedClientsAreForgottenForNewConnections(t *testing.T) {
	n := testnet.New(t)
	mustSet(t, n.Target, "ipv4/ip_local_port_range", "40000 40511")
	mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "", port)
	for _, addr := range []netip.Addr{n.Target.Addr6, n.Target.Addr4} {
		for i := range 1000 {
			up, err := r.DialOriginal(t.Context(), netip.MustParseAddrPort("[fd18:7::1]:7777"), netip.AddrPortFrom(addr, port))
			if err != nil {
				t.Fatalf("%v, %d: %v", addr, i, err)
			}
			if err := up.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

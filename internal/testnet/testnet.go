// Package testnet builds what kernel tests stand on: network namespaces joined by a veth pair, processes inside them, cgroups.
// All of it is gone when the test ends. It never touches the namespace that the test program itself is in.
package testnet

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/netns"
)

// The addresses are the same in each Net: the namespaces know nothing of each other.
var (
	target4 = netip.MustParsePrefix("198.18.7.2/24")
	client4 = netip.MustParsePrefix("198.18.7.1/24")
	target6 = netip.MustParsePrefix("fd18:7::2/64")
	client6 = netip.MustParsePrefix("fd18:7::1/64")
	// Link-local addresses of our choice spare us the wait for the kernel's own.
	targetLink = netip.MustParsePrefix("fe80::7:2/64")
	clientLink = netip.MustParsePrefix("fe80::7:1/64")
)

// Device is the name of the veth in both namespaces.
const Device = "eth0"

// Net is a target and a client, as a pod and one who calls it.
type Net struct {
	Target, Client *Host
}

// Host is one named network namespace with its addresses.
type Host struct {
	NS   *netns.NS
	Name string // as in `ip netns exec NAME`

	// Addresses of Device, the zero Addr in a host from Lone. Link has the zone that is valid inside, by number: Go knows the names of one
	// namespace only. To call the other's Link, put our own zone on it.
	Addr4, Addr6, Link netip.Addr
	hardware           net.HardwareAddr
}

// RequireRoot skips a test that is not run by root, or fails it when MAGPIE_NO_SKIP=1.
func RequireRoot(tb testing.TB) {
	tb.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("MAGPIE_NO_SKIP") == "1":
		tb.Fatal("needs root")
	default:
		tb.Skip("needs root")
	}
}

// New makes a target and a client that reach each other over Device, on IPv4 and IPv6, at once. Each one's default route leads to the other.
func New(tb testing.TB) *Net {
	tb.Helper()
	n := &Net{Target: Lone(tb), Client: Lone(tb)}
	n.Target.Do(tb, func() error { return makePair(n.Client.NS) })
	n.Target.Do(tb, func() error { return n.Target.setUp(target4, target6, targetLink) })
	n.Client.Do(tb, func() error { return n.Client.setUp(client4, client6, clientLink) })
	n.Target.Do(tb, func() error { return pointTo(n.Client) })
	n.Client.Do(tb, func() error { return pointTo(n.Target) })
	n.Target.waitUp(tb)
	n.Client.waitUp(tb)
	return n
}

// Lone makes a namespace with nothing but lo, which is up: no route leads out.
func Lone(tb testing.TB) *Host {
	tb.Helper()
	RequireRoot(tb)
	h := &Host{Name: "magpie-test-" + strings.ToLower(rand.Text()[:10])}
	mustRun(tb, "ip", "netns", "add", h.Name)
	tb.Cleanup(func() { mustRun(tb, "ip", "netns", "del", h.Name) })
	ns, err := netns.Named("", h.Name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := ns.Close(); err != nil {
			tb.Error(err)
		}
	})
	h.NS = ns
	h.Do(tb, func() error { return linkUp("lo") })
	return h
}

// Do runs fn inside the namespace and fails the test if fn does.
func (h *Host) Do(tb testing.TB, fn func() error) {
	tb.Helper()
	if err := h.NS.Do(fn); err != nil {
		tb.Fatalf("in %s: %v", h.Name, err)
	}
}

// Start starts a command inside the namespace. The process is killed when the test ends, if it has not ended before.
func (h *Host) Start(tb testing.TB, cmd *exec.Cmd) {
	tb.Helper()
	h.Do(tb, cmd.Start)
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
	})
}

func makePair(peer *netns.NS) error {
	return netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: Device},
		PeerName:      Device,
		PeerNamespace: netlink.NsFd(peer.Fd()),
	})
}

func (h *Host) setUp(v4, v6, local netip.Prefix) error {
	link, err := netlink.LinkByName(Device)
	if err != nil {
		return err
	}
	// /proc/sys/net shows the namespace of the thread that opens it.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+Device+"/addr_gen_mode", []byte("1"), 0); err != nil {
		return err
	}
	h.hardware = link.Attrs().HardwareAddr
	h.Addr4, h.Addr6, h.Link = v4.Addr(), v6.Addr(), local.Addr().WithZone(strconv.Itoa(link.Attrs().Index))
	for _, p := range []netip.Prefix{v4, v6, local} {
		addr, err := netlink.ParseAddr(p.String())
		if err != nil {
			return err
		}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return err
		}
	}
	return linkUp(Device)
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// pointTo makes the other host the way to everywhere. Its hardware address is given, not asked for: under load the kernel joins the multicast
// group in which it would answer seconds after the address is there.
func pointTo(via *Host) error {
	link, err := netlink.LinkByName(Device)
	if err != nil {
		return err
	}
	for _, a := range []netip.Addr{via.Addr4, via.Addr6, via.Link} {
		err := netlink.NeighAdd(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: a.AsSlice(), HardwareAddr: via.hardware, State: netlink.NUD_PERMANENT})
		if err != nil {
			return fmt.Errorf("neighbour %v: %w", a, err)
		}
	}
	for _, a := range []netip.Addr{via.Addr4, via.Addr6} {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: a.AsSlice()}); err != nil {
			return err
		}
	}
	return nil
}

// waitUp waits until the veth carries packets and the host knows its addresses for its own: the kernel sees to both in workers, and what is sent
// before is lost.
func (h *Host) waitUp(tb testing.TB) {
	tb.Helper()
	const patience, pause = 10 * time.Second, time.Millisecond
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		var up bool
		h.Do(tb, func() (err error) {
			up, err = isUp(h.Addr4, h.Addr6, h.Link)
			return err
		})
		if up {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%s in %s is not up after %v", Device, h.Name, patience)
		}
	}
}

func isUp(own ...netip.Addr) (bool, error) {
	link, err := netlink.LinkByName(Device)
	if err != nil || link.Attrs().OperState != netlink.OperUp {
		return false, err
	}
	for _, a := range own {
		routes, err := netlink.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{OifIndex: linkIndexFor(a, link)})
		if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
			return false, nil
		}
		if err != nil || len(routes) == 0 || routes[0].Type != unix.RTN_LOCAL {
			return false, err
		}
	}
	return true, nil
}

// linkIndexFor gives the interface that a question about the address has to name, 0 if none.
func linkIndexFor(a netip.Addr, link netlink.Link) int {
	if a.IsLinkLocalUnicast() {
		return link.Attrs().Index
	}
	return 0
}

func mustRun(tb testing.TB, name string, args ...string) {
	tb.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

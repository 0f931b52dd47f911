package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// fabric is the wire between the machines: a bridge in a network namespace that has nothing else, so that neither the host's rules nor
// its routes see what passes. Tests may plug in namespaces of their own.
type fabric struct {
	ns     netns.NsHandle
	handle *netlink.Handle
	bridge netlink.Link
}

// makeFabric makes the namespace, the bridge, and the host's port to it.
func makeFabric() (*fabric, error) {
	ns, err := newNamespace(fabricName)
	if err != nil {
		return nil, fmt.Errorf("make netns %s: %w", fabricName, err)
	}
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make netns %s: %w", fabricName, err), ns.Close(), removeFabric())
	}
	f := &fabric{ns: ns, handle: handle}
	if err := f.build(); err != nil {
		return nil, errors.Join(err, f.close(), removeFabric())
	}
	return f, nil
}

func (f *fabric) build() error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := f.handle.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge %s: %w", bridgeName, err)
	}
	f.bridge = bridge
	if err := f.handle.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("set bridge %s up: %w", bridgeName, err)
	}
	host, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open the host's netns: %w", err)
	}
	defer host.Close()
	if err := f.plug("host", netlink.NsFd(host), hostLink); err != nil {
		return err
	}
	if err := configureLink(hostLink, hostAddress); err != nil {
		return err
	}
	route, err := unreachable()
	if err != nil {
		return err
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("add route %s: %w", route, err)
	}
	return nil
}

// unreachable is the host's route to pods and Services. Without it their packets would leave by the default route, and there are gateways
// that answer to any address.
func unreachable() (*netlink.Route, error) {
	dst, err := netlink.ParseIPNet(clusterNetwork)
	return &netlink.Route{Dst: dst, Type: unix.RTN_UNREACHABLE}, err
}

// plug connects a namespace: port names the bridge's end, inside the other one.
func (f *fabric) plug(port string, peer any, inside string) error {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: inside, PeerNamespace: peer}
	if err := f.handle.LinkAdd(veth); err != nil {
		return fmt.Errorf("plug %s into the fabric: %w", port, err)
	}
	if err := f.handle.LinkSetMaster(veth, f.bridge); err != nil {
		return fmt.Errorf("plug %s into the fabric: %w", port, err)
	}
	if err := f.handle.LinkSetUp(veth); err != nil {
		return fmt.Errorf("plug %s into the fabric: %w", port, err)
	}
	return nil
}

// close lets go of the fabric; it stays.
func (f *fabric) close() error {
	f.handle.Close()
	return f.ns.Close()
}

// removeFabric ends what makeFabric made, in whatever state it is. The ends of links go with the namespaces that they are in; the host's
// end goes first, as the kernel takes its time with namespaces.
func removeFabric() error {
	var failed error
	if l, err := netlink.LinkByName(hostLink); err == nil {
		failed = netlink.LinkDel(l)
	}
	route, err := unreachable()
	if err == nil {
		err = netlink.RouteDel(route)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		failed = errors.Join(failed, fmt.Errorf("delete route %s: %w", route, err))
	}
	path := "/run/netns/" + fabricName
	if !exists(path) {
		return failed
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		failed = errors.Join(failed, fmt.Errorf("unmount %s: %w", path, err))
	}
	return errors.Join(failed, os.Remove(path))
}

// newNamespace makes a network namespace that ip-netns(8) knows, on a thread that then ends: no other code may ever run there.
func newNamespace(name string) (netns.NsHandle, error) {
	type result struct {
		ns  netns.NsHandle
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.NewNamed(name)
		made <- result{ns, err}
	}()
	r := <-made
	return r.ns, r.err
}

// configureLink gives a link of this namespace an address on the fabric, and sets it up.
func configureLink(name, address string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("configure %s: %w", name, err)
	}
	a, err := netlink.ParseAddr(address + fabricBits)
	if err != nil {
		return fmt.Errorf("configure %s: %w", name, err)
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		return fmt.Errorf("configure %s: add %s: %w", name, address, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("configure %s: set up: %w", name, err)
	}
	return nil
}

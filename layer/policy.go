//go:build linux && (amd64 || arm64)

package layer

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// remote reports whether an address is reached through the pod. All are, but this host's own.
func remote(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsLoopback() && !a.IsUnspecified() // connecting to 0.0.0.0 or :: is connecting to this host
}

// nameServices are sockets of daemons of this host that would answer for its own names, before the pod's resolv.conf was
// ever asked. To the process they are not there.
var nameServices = []string{
	"/run/nscd/socket", "/var/run/nscd/socket",
	"/run/systemd/resolve/io.systemd.Resolve", "/var/run/systemd/resolve/io.systemd.Resolve",
	"/run/systemd/resolve/io.systemd.Resolve.Monitor",
	"/run/avahi-daemon/socket", "/var/run/avahi-daemon/socket",
}

// asksThisHost reports whether the raw address of a unix socket is that of a name service.
func asksThisHost(sa []byte) bool {
	const offsetPath = 2 // of sockaddr_un.sun_path
	if len(sa) <= offsetPath {
		return false
	}
	name, _, _ := bytes.Cut(sa[offsetPath:], []byte{0})
	return slices.Contains(nameServices, string(name))
}

// onThisHost reports whether an interface of this host has the address.
func onThisHost(a netip.Addr) bool {
	if !remote(a) {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(i net.Addr) bool {
		n, ok := i.(*net.IPNet)
		if !ok {
			return false
		}
		own, ok := netip.AddrFromSlice(n.IP)
		return ok && own.Unmap() == a.Unmap()
	})
}

// familyOf is the family in a raw address; AF_UNSPEC when it is too short for one.
func familyOf(sa []byte) int {
	if len(sa) < 2 {
		return unix.AF_UNSPEC
	}
	return int(sa[0]) | int(sa[1])<<8
}

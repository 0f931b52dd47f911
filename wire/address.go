package wire

import (
	"fmt"
	"net/netip"
	"syscall"
)

// AddressOf is a as it stands in a message; nil for the zero AddrPort.
func AddressOf(a netip.AddrPort) *Address {
	if !a.IsValid() {
		return nil
	}
	ip := a.Addr()
	return &Address{Ip: ip.WithZone("").AsSlice(), Port: uint32(a.Port()), Zone: ip.Zone()}
}

// AddrPort is the reverse of AddressOf. An address that is none is an error; so is a missing one.
func (a *Address) AddrPort() (netip.AddrPort, error) {
	ip, ok := netip.AddrFromSlice(a.GetIp())
	if !ok || a.GetPort() > 0xffff {
		return netip.AddrPort{}, fmt.Errorf("read address: %d bytes, port %d: %w", len(a.GetIp()), a.GetPort(), syscall.EPROTO)
	}
	return netip.AddrPortFrom(ip.WithZone(a.GetZone()), uint16(a.GetPort())), nil
}

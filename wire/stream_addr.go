package wire

import (
	"fmt"
	"net"
)

// LocalAddr of an incoming stream is what the client dialled. Of a connect stream it is the address of the socket
// beside the target, known once the stream is opened.
func (s *Stream) LocalAddr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.local
}

// RemoteAddr of an incoming stream is the client, of a connect stream what was to be connected to.
func (s *Stream) RemoteAddr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remote
}

// SetAddrs sets what LocalAddr and RemoteAddr return; nil leaves one as it is.
func (s *Stream) SetAddrs(local, remote net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if local != nil {
		s.local = local
	}
	if remote != nil {
		s.remote = remote
	}
}

// about takes the addresses from what the stream is for.
func (s *Stream) about(what *Open) {
	switch w := what.What.(type) {
	case *Open_Connect:
		s.SetAddrs(nil, netAddr(w.Connect.Network, w.Connect.To))
	case *Open_Incoming:
		local, client := w.Incoming.Local, w.Incoming.Client
		if s.opened() { // from our side: we are the client, so to speak
			local, client = client, local
		}
		s.SetAddrs(netAddr(Network_NETWORK_TCP, local), netAddr(Network_NETWORK_TCP, client))
	}
}

// opened reports whether we opened the stream.
func (s *Stream) opened() bool { return s.id%2 == s.carrier.first%2 }

// netAddr returns nil for an address that is none.
func netAddr(network Network, a *Address) net.Addr {
	ap, err := a.AddrPort()
	if err != nil {
		return nil
	}
	if network == Network_NETWORK_UDP {
		return net.UDPAddrFromAddrPort(ap)
	}
	return net.TCPAddrFromAddrPort(ap)
}

// streamAddr stands for an address until a stream has one.
type streamAddr uint32

func (streamAddr) Network() string  { return "magpie" }
func (a streamAddr) String() string { return fmt.Sprintf("stream-%d", uint32(a)) }

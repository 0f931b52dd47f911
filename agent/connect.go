package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/magpie-k8s/magpie/wire"
)

// connect makes a connection from the target for the local process, and relays it until both sides are done.
func (a *Agent) connect(ctx context.Context, s *wire.Stream, want *wire.Connect) error {
	to, err := want.To.AddrPort()
	if err != nil {
		return s.Refuse(err)
	}
	network := "tcp"
	if want.Network == wire.Network_NETWORK_UDP {
		network = "udp"
	}
	c, err := a.outgoing.Dial(ctx, network, to)
	if err != nil {
		return s.Refuse(err)
	}
	defer c.Close()
	if err := s.Accepted(localOf(c)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if network == "udp" {
		return relayDatagrams(wire.NewDatagrams(s), c)
	}
	return relay(s, c.(*net.TCPConn))
}

func localOf(c net.Conn) netip.AddrPort {
	switch a := c.LocalAddr().(type) {
	case *net.TCPAddr:
		return unmapped(a.AddrPort())
	case *net.UDPAddr:
		return unmapped(a.AddrPort())
	}
	return netip.AddrPort{}
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// relay copies both ways. The end of one direction ends only that one; a reset of either side resets the other.
func relay(s *wire.Stream, c *net.TCPConn) error {
	var back sync.WaitGroup
	var backErr error
	back.Go(func() {
		// io.CopyBuffer would find c's ReadFrom and s no better: plain reads and writes are what we want.
		_, backErr = io.Copy(s, struct{ io.Reader }{c})
		if backErr == nil {
			backErr = s.CloseWrite()
		}
		if backErr != nil {
			s.Reset(errnoOf(backErr))
		}
	})
	_, err := io.Copy(struct{ io.Writer }{c}, s)
	if err == nil {
		err = c.CloseWrite()
	}
	if err != nil {
		_ = c.SetLinger(0)
		c.Close()
	}
	back.Wait()
	return errors.Join(err, backErr)
}

func errnoOf(err error) syscall.Errno {
	errno := syscall.ECONNRESET
	_ = errors.As(err, &errno)
	return errno
}

// relayDatagrams copies both ways until the client closes its side. An ICMP error is told as its errno; the socket
// lives on, as it would in the application.
func relayDatagrams(d *wire.Datagrams, c net.Conn) error {
	go sendBack(d, c)
	defer c.Close()
	b := make([]byte, maxDatagram)
	for {
		n, err := d.Read(b)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := c.Write(b[:n]); err != nil {
			if err := d.WriteError(err); err != nil {
				return err
			}
		}
	}
}

// maxDatagram is more than any UDP datagram has.
const maxDatagram = 1 << 16

func sendBack(d *wire.Datagrams, c net.Conn) {
	b := make([]byte, maxDatagram)
	for {
		n, err := c.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			err = d.WriteError(err)
		} else {
			_, err = d.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

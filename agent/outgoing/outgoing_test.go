package outgoing

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// mustListen listens inside a namespace.
func mustListen(tb testing.TB, h *testnet.Host, network, address string) (l net.Listener) {
	tb.Helper()
	h.Do(tb, func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	tb.Cleanup(func() { l.Close() })
	return l
}

func portOf(tb testing.TB, a net.Addr) uint16 {
	tb.Helper()
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		tb.Fatal(err)
	}
	return ap.Port()
}

func TestDialLeavesFromTheTarget(t *testing.T) {
	n := testnet.New(t)
	d := New(n.Target.NS)
	for _, host := range []struct{ from, to netip.Addr }{
		{n.Target.Addr4, n.Client.Addr4},
		{n.Target.Addr6, n.Client.Addr6},
		{n.Target.Addr4, netip.AddrFrom16(n.Client.Addr4.As16())}, // IPv4 in IPv6
	} {
		l := mustListen(t, n.Client, "tcp", netip.AddrPortFrom(host.to.Unmap(), 0).String())
		c, err := d.Dial(t.Context(), "tcp", netip.AddrPortFrom(host.to, portOf(t, l.Addr())))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if s.RemoteAddr().String() != c.LocalAddr().String() {
			t.Errorf("the server sees %v, we say %v", s.RemoteAddr(), c.LocalAddr())
		}
		if got := netip.MustParseAddrPort(c.LocalAddr().String()).Addr(); got != host.from {
			t.Errorf("from %v; want %v", got, host.from)
		}
		if mp, err := s.(*net.TCPConn).MultipathTCP(); err != nil || mp {
			t.Errorf("MPTCP is %v, %v", mp, err)
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(s); err != nil || string(b) != "hello" {
			t.Errorf("read %q, %v", b, err)
		}
	}
}

func TestDialReachesLinkLocalByTheTargetsOwnZone(t *testing.T) {
	n := testnet.New(t)
	l := mustListen(t, n.Client, "tcp6", "[::]:0")
	for _, zone := range []string{testnet.Device, n.Target.Link.Zone()} {
		to := netip.AddrPortFrom(n.Client.Link.WithZone(zone), portOf(t, l.Addr()))
		c, err := New(n.Target.NS).Dial(t.Context(), "tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	_, err := New(n.Target.NS).Dial(t.Context(), "tcp", netip.AddrPortFrom(n.Client.Link.WithZone("nowhere"), 1))
	if !errors.Is(err, syscall.ENODEV) {
		t.Errorf("%v; want ENODEV", err)
	}
}

func TestDialFailsWithTheErrnoOfTheTarget(t *testing.T) {
	n := testnet.New(t)
	lone := testnet.Lone(t)
	closed := netip.AddrPortFrom(n.Client.Addr4, 9)
	for _, c := range []struct {
		from    *testnet.Host
		network string
		to      netip.AddrPort
		want    error
	}{
		{n.Target, "tcp", closed, syscall.ECONNREFUSED},
		{n.Target, "tcp", netip.AddrPortFrom(n.Client.Addr6, 9), syscall.ECONNREFUSED},
		{lone, "tcp", closed, syscall.ENETUNREACH},
		{lone, "udp", closed, syscall.ENETUNREACH},
		{lone, "tcp", netip.MustParseAddrPort("127.0.0.1:9"), syscall.ECONNREFUSED},
		{n.Target, "tcp", netip.MustParseAddrPort("255.255.255.255:9"), syscall.ENETUNREACH},
		{n.Target, "tcp", netip.AddrPort{}, syscall.EINVAL},
	} {
		conn, err := New(c.from.NS).Dial(t.Context(), c.network, c.to)
		if !errors.Is(err, c.want) {
			t.Errorf("%s %v: %v, %v; want %v", c.network, c.to, conn, err, c.want)
		}
	}
	if _, err := New(lone.NS).Dial(t.Context(), "sctp", closed); err == nil {
		t.Error("sctp: no error")
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	n := testnet.New(t)
	// A listener whose queue is full does not answer.
	l := mustListen(t, n.Client, "tcp4", netip.AddrPortFrom(n.Client.Addr4, 0).String())
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }); err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(n.Client.Addr4, portOf(t, l.Addr()))
	d := New(n.Target.NS)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var work sync.WaitGroup
	var gaveUp sync.Map
	for i := range 8 {
		work.Go(func() {
			c, err := d.Dial(ctx, "tcp", to)
			if err == nil {
				c.Close()
				return
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v; want DeadlineExceeded", err)
			}
			gaveUp.Store(i, true)
		})
	}
	work.Wait()
	if _, ok := gaveUp.Load(0); !ok {
		n := 0
		gaveUp.Range(func(any, any) bool { n++; return true })
		if n == 0 {
			t.Error("no dial had to wait: the test tests nothing")
		}
	}
	if len(d.dials) != 0 || len(d.threads) != 0 {
		t.Errorf("%d dials and %d threads are left", len(d.dials), len(d.threads))
	}
}

func TestDatagramsToANameserverOnLoopback(t *testing.T) {
	lone := testnet.Lone(t)
	var server net.PacketConn
	lone.Do(t, func() (err error) {
		server, err = net.ListenPacket("udp4", "127.0.0.53:53")
		return err
	})
	defer server.Close()
	c, err := New(lone.NS).Dial(t.Context(), "udp", netip.MustParseAddrPort("127.0.0.53:53"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int{0, 1, 512, 4096} {
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 65535)
		n, from, err := server.ReadFrom(b)
		if err != nil || n != size {
			t.Fatalf("%d bytes came as %d, %v", size, n, err)
		}
		if _, err := server.WriteTo(b[:n], from); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(b); err != nil || n != size {
			t.Fatalf("%d bytes came back as %d, %v", size, n, err)
		}
	}
	server.Close()
	if _, err := c.Write([]byte("anybody?")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("read: %v; want ECONNREFUSED", err)
	}
}

func TestThousandDialsAtOnce(t *testing.T) {
	lone := testnet.Lone(t)
	l := mustListen(t, lone, "tcp4", "127.0.0.1:0")
	var accepted sync.WaitGroup
	accepted.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	})
	d := New(lone.NS)
	to := netip.MustParseAddrPort(l.Addr().String())
	var work sync.WaitGroup
	for range 1000 {
		work.Go(func() {
			c, err := d.Dial(t.Context(), "tcp", to)
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
		})
	}
	work.Wait()
	l.Close()
	accepted.Wait()
}

func BenchmarkDial(b *testing.B) {
	lone := testnet.Lone(b)
	l := mustListen(b, lone, "tcp4", "127.0.0.1:0")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	d := New(lone.NS)
	to := netip.MustParseAddrPort(l.Addr().String())
	for b.Loop() {
		c, err := d.Dial(b.Context(), "tcp", to)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

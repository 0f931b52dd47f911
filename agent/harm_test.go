package agent_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/client"
	"github.com/magpie-k8s/magpie/internal/testnet"
)

// mustListenIn listens in a host's namespace and gives the first connection to serve.
func mustListenIn(tb testing.TB, h *testnet.Host, addr string, serve func(*net.TCPConn)) {
	tb.Helper()
	h.Do(tb, func() error {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				serve(c.(*net.TCPConn))
				c.Close()
			}
		}()
		tb.Cleanup(func() { l.Close(); <-done })
		return nil
	})
}

func mustDialFrom(tb testing.TB, h *testnet.Host, addr netip.AddrPort) *net.TCPConn {
	tb.Helper()
	var c net.Conn
	h.Do(tb, func() (err error) {
		c, err = net.DialTimeout("tcp", addr.String(), patience)
		return err
	})
	_ = c.SetDeadline(time.Now().Add(patience))
	tb.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// A client that breaks off half of what it says must not look like one that has said all.
func TestTheResetOfAClientIsOneForWhoeverListens(t *testing.T) {
	const half = "\x00half of an upload"
	n := testnet.New(t)
	heard := make(chan error, 1)
	hear := func(c *net.TCPConn) {
		if _, err := io.ReadFull(c, make([]byte, len(half))); err != nil {
			heard <- err
			return
		}
		_, _ = c.Write([]byte("go on"))
		_, err := c.Read(make([]byte, 1))
		heard <- err
	}
	mustListenIn(t, n.Target, ":8080", hear)
	s := openSession(t, startAgent(t, n.Target), "mine")
	if _, err := s.Claim(t.Context(), 8080, client.Wish{Filter: mustHeader(t, "x-user: me")}); err != nil {
		t.Fatal(err)
	}
	whole, err := s.Claim(t.Context(), 8081, client.Wish{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		in, err := whole.Accept()
		if err != nil || in.Accepted() != nil {
			return
		}
		if _, err := io.ReadFull(in, make([]byte, len(half))); err != nil {
			heard <- err
			return
		}
		_, _ = in.Write([]byte("go on"))
		_, err = in.Read(make([]byte, 1))
		heard <- err
	}()
	for _, port := range []uint16{8080, 8081} {
		c := mustDialFrom(t, n.Client, netip.AddrPortFrom(n.Target.Addr4, port))
		if _, err := io.WriteString(c, half); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetLinger(0)
		c.Close()
		if err := <-heard; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("port %d: heard %v, want a reset", port, err)
		}
	}
}

// As where the original is started after the session, or is down: one who waits for a greeting must not wait for ever.
func TestASilentClientOfAnOriginalThatRefusesIsTold(t *testing.T) {
	n := testnet.New(t)
	s := openSession(t, startAgent(t, n.Target), "mine")
	if _, err := s.Claim(t.Context(), 8080, client.Wish{Filter: mustHeader(t, "x-user: me")}); err != nil {
		t.Fatal(err)
	}
	c := mustDialFrom(t, n.Client, netip.AddrPortFrom(n.Target.Addr4, 8080))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("heard %v, want a reset", err)
	}
}

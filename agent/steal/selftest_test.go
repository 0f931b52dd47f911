package steal

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

func TestSelfTestProvesThePortAndNobodyNotices(t *testing.T) {
	h := testnet.Lone(t)
	seen := make(chan net.Conn, 1)
	mustTell(t, h, seen)
	r := mustOpen(t, h, "", port)
	go tellAccepted(r, seen)
	for range 100 {
		if err := r.SelfTest(t.Context(), port); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case c := <-seen:
		t.Errorf("noticed by %v", c.LocalAddr())
	default:
	}
	if len(r.sources.inUse) != 0 || len(r.probes.sources) != 0 {
		t.Errorf("left: %v, %v", r.sources.inUse, r.probes.sources)
	}
}

func TestSelfTestFailsWhenConnectionsGoPast(t *testing.T) {
	h := testnet.Lone(t)
	r := mustOpen(t, h, "", port+1)
	if err := r.SelfTest(t.Context(), port); !errors.Is(err, errPast) {
		t.Errorf("nobody listens: %v", err)
	}
	seen := make(chan net.Conn, 1)
	mustTell(t, h, seen)
	start := time.Now()
	if err := r.SelfTest(t.Context(), port); !errors.Is(err, errPast) {
		t.Errorf("the original listens: %v", err)
	}
	if took := time.Since(start); took > 2*selfTestPatience {
		t.Errorf("it took %v", took)
	}
	select {
	case <-seen:
	case <-time.After(patience):
		t.Error("the original did not get it either")
	}
	if len(r.sources.inUse) != 0 || len(r.probes.sources) != 0 {
		t.Errorf("left: %v, %v", r.sources.inUse, r.probes.sources)
	}
}

func TestSelfTestDoesWithoutIPv6(t *testing.T) {
	h := testnet.Lone(t)
	h.Do(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr("::1/128")
		if err != nil {
			return err
		}
		return netlink.AddrDel(lo, addr)
	})
	r := mustOpen(t, h, "", port)
	if err := r.SelfTest(t.Context(), port); err != nil {
		t.Error(err)
	}
}

// mustTell listens as the original and tells who came.
func mustTell(tb testing.TB, h *testnet.Host, seen chan<- net.Conn) {
	tb.Helper()
	var l net.Listener
	h.Do(tb, func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
			select {
			case seen <- c:
			default:
			}
		}
	}()
}

func tellAccepted(r *Redirect, seen chan<- net.Conn) {
	for {
		c, err := r.Accept()
		if err != nil {
			return
		}
		c.Close()
		seen <- c
	}
}

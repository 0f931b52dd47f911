//go:build linux && (amd64 || arm64)

package layer

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mustDatagrams relays nowhere: there is no pod to dial from.
func mustDatagrams(tb testing.TB) *datagrams {
	tb.Helper()
	d := newDatagrams(func(netip.AddrPort) (Conn, error) { return nil, errors.New("no pod") }, slog.New(slog.DiscardHandler))
	tb.Cleanup(d.close)
	return d
}

func mustDatagramSocket(tb testing.TB) *datagramSocket {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := newDatagramSocket(fd)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (d *datagrams) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.relays)
}

func TestSweepEndsRelaysOfClosedSockets(t *testing.T) {
	d, s := mustDatagrams(t), mustDatagramSocket(t)
	peer := netip.MustParseAddrPort("198.18.0.20:53")
	d.attach(s, peer, nil)
	if _, got, ok := d.names(s.cookie); !ok || got != peer {
		t.Fatalf("peer %v, %v; want %v", got, ok, peer)
	}
	d.sweepAt(time.Now().Add(2 * relayIdle)) // The socket is there, so is the relay.
	if n := d.count(); n != 1 {
		t.Fatalf("%d relays of one connected socket", n)
	}
	r, _ := d.relayFor(s, peer)
	r.letGo()
	unix.Close(s.fd)
	d.sweepAt(time.Now())
	if _, _, ok := d.names(s.cookie); ok || d.count() != 0 {
		t.Error("the relay outlives its socket")
	}
}

func TestIdleRelaysOfUnconnectedSocketsEnd(t *testing.T) {
	d, s := mustDatagrams(t), mustDatagramSocket(t)
	defer unix.Close(s.fd)
	for _, peer := range []string{"198.18.0.20:53", "198.18.0.20:54"} {
		if errno := d.send(s, netip.MustParseAddrPort(peer), []byte("x"), nil, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	d.sweepAt(time.Now())
	if n := d.count(); n != 2 {
		t.Errorf("%d relays for two peers", n)
	}
	d.sweepAt(time.Now().Add(2 * relayIdle))
	if n := d.count(); n != 0 {
		t.Errorf("%d relays left", n)
	}
}

func TestClosedDatagramsTakeNothingMore(t *testing.T) {
	d, s := mustDatagrams(t), mustDatagramSocket(t)
	defer unix.Close(s.fd)
	d.close()
	d.close()
	if errno := d.send(s, netip.MustParseAddrPort("198.18.0.20:53"), []byte("x"), nil, 0); errno != unix.ENETUNREACH {
		t.Errorf("send after close: %v", errno)
	}
}

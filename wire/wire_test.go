package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what should take no time at all.
const patience = 10 * time.Second

// mustPipe returns both ends of a unix socket.
func mustPipe(tb testing.TB) (a, b net.Conn) {
	tb.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pipe")
		if ends[i], err = net.FileConn(f); err != nil {
			tb.Fatal(err)
		}
		f.Close()
	}
	tb.Cleanup(func() { ends[0].Close(); ends[1].Close() })
	return ends[0], ends[1]
}

// mustCarriers returns both ends of a carrier.
func mustCarriers(tb testing.TB) (client, agent *Carrier) {
	tb.Helper()
	a, b := mustPipe(tb)
	client, agent = Client(a), Agent(b)
	tb.Cleanup(func() { client.Close(); agent.Close() })
	return client, agent
}

var (
	shop    = netip.MustParseAddrPort("198.18.0.2:80")
	here    = netip.MustParseAddrPort("[fd18::1]:40000")
	connect = &Open{What: &Open_Connect{Connect: &Connect{Network: Network_NETWORK_TCP, To: AddressOf(shop)}}}
)

// mustOpen opens a stream from client to agent, and accepts it there.
func mustOpen(tb testing.TB, client, agent *Carrier) (ours, theirs *Stream) {
	tb.Helper()
	ours, err := client.Open(tb.Context(), connect)
	if err != nil {
		tb.Fatal(err)
	}
	theirs = mustAccept(tb, agent)
	if err := theirs.Accepted(here); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func mustAccept(tb testing.TB, c *Carrier) *Stream {
	tb.Helper()
	s, err := c.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.Opening(); err != nil {
		tb.Fatal(err)
	}
	return s
}

func mustWrite(tb testing.TB, w io.Writer, b string) {
	tb.Helper()
	if _, err := io.WriteString(w, b); err != nil {
		tb.Fatal(err)
	}
}

// mustRead reads exactly as many bytes as want has.
func mustRead(tb testing.TB, r io.Reader, want string) {
	tb.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		tb.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func mustEnd(tb testing.TB, r io.Reader, want error) {
	tb.Helper()
	var b [1]byte
	if n, err := r.Read(b[:]); n != 0 || !errors.Is(err, want) {
		tb.Fatalf("read %d bytes, %v; want %v", n, err, want)
	}
}

// within fails the test when a channel is not closed in time.
func within(tb testing.TB, what string, done <-chan struct{}) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		tb.Fatalf("%s: not within %v", what, patience)
	}
}

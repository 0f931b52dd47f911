package session

import (
	"bufio"
	"fmt"
	"net"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// openOlder opens connections to the original that were used once and are kept.
func openOlder(tb testing.TB, n *testnet.Net, count int) []net.Conn {
	tb.Helper()
	conns := make([]net.Conn, count)
	for i := range conns {
		c, err := dial(n.Client, net.JoinHostPort(n.Target.Addr4.String(), "8080"))
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { c.Close() })
		if a, err := ask(c, bufio.NewReader(c), "/", "X-User: me"); err != nil || a.by != "original" {
			tb.Fatalf("answered by %q, %v", a.by, err)
		}
		conns[i] = c
	}
	return conns
}

func TestConnectionsOlderThanTheSessionAreNamed(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	conns := openOlder(t, n, 3)
	m := startSession(t, n)
	m.WaitFor(t, fmt.Sprintf("port 8080 of netns/%s: 3 connections were open before: their requests stay with the original", n.Target.Name))
	for _, c := range conns {
		if a, err := ask(c, bufio.NewReader(c), "/", "X-User: me"); err != nil || a.by != "original" {
			t.Errorf("answered by %q, %v", a.by, err)
		}
	}
}

// TestFlushedConnectionsAreOpenedAnew lets go of those that are older: their clients find them closed between two requests.
func TestFlushedConnectionsAreOpenedAnew(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	conns := openOlder(t, n, 3)
	m := startSession(t, n, "--flush")
	m.WaitFor(t, "3 connections were open before: closed one by one")
	m.WaitFor(t, "no connection is older than the session any more, 3 closed")
	for _, c := range conns {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("it is still open")
		}
	}
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	for header, by := range both {
		if a := mustGet(t, n.Client, addr, "/", header); a.by != by {
			t.Errorf("%s: answered by %q", header, a.by)
		}
	}
}

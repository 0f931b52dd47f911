package session

import (
	"bufio"
	"net"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

func TestPassedConnectionsAreLetGoAfterTheyLingered(t *testing.T) {
	t.Parallel()
	const linger = 800 * time.Millisecond
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	before := census(t, n.Target)
	m := startSession(t, n, "--linger", linger.String())
	gone := ended(t, agentOf(t, m))
	var conns []net.Conn
	var ins []*bufio.Reader
	for range 4 {
		c, err := dial(n.Client, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns, ins = append(conns, c), append(ins, bufio.NewReader(c))
	}
	each := func(check func(i int, a answer)) {
		t.Helper()
		for i, c := range conns {
			a, err := ask(c, ins[i], "/", "x-user: you")
			if err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			if a.by != "original" || a.client != a.as {
				t.Errorf("connection %d: answered by %q, who saw %s instead of %s", i, a.by, a.client, a.as)
			}
			check(i, a)
		}
	}
	each(func(int, answer) {})
	m.Stop(t)
	end := time.Now()
	each(func(i int, a answer) {
		if a.last && time.Since(end) < linger {
			t.Errorf("connection %d was closed %v after the session", i, time.Since(end))
		}
	})
	// What our header would have taken is the original's now, on the old connection too.
	if a, err := ask(conns[0], ins[0], "/", "x-user: me"); err != nil || a.by != "original" {
		t.Errorf("answered by %q, %v", a.by, err)
	}
	time.Sleep(time.Until(end.Add(linger + 100*time.Millisecond)))
	each(func(i int, a answer) {
		if !a.last {
			t.Errorf("connection %d goes on", i)
		}
	})
	gone()
	mustBeUntouched(t, n, before)
}

func TestRawConnectionsOutliveTheLinger(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "echo", ":8080")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	before := census(t, n.Target)
	m := startSession(t, n, "--linger", "100ms")
	gone := ended(t, agentOf(t, m))
	c, in, by := greet(t, n.Client, addr)
	if by != "original" {
		t.Fatalf("greeted by %q", by)
	}
	mustEcho(t, c, in, "during\n")
	m.Stop(t)
	time.Sleep(1500 * time.Millisecond) // more than the linger, and more than the agent stays for nobody
	mustEcho(t, c, in, "after\n")
	// The port is the original's alone meanwhile, and may be claimed again.
	if _, _, by := greet(t, n.Client, addr); by != "original" {
		t.Errorf("greeted by %q", by)
	}
	again := startSession(t, n)
	mustEcho(t, c, in, "again\n")
	again.Stop(t)
	c.Close()
	gone()
	mustBeUntouched(t, n, before)
}

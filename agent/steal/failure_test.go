package steal

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/bpf"
	"github.com/magpie-k8s/magpie/internal/testnet"
)

func mustCensus(tb testing.TB, h *testnet.Host) bpf.Census {
	tb.Helper()
	c, err := bpf.TakeCensus(h.NS.ID().Ino)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// listening lists the sockets that listen inside a namespace.
func listening(tb testing.TB, h *testnet.Host) string {
	tb.Helper()
	var out []byte
	h.Do(tb, func() (err error) {
		out, err = exec.Command("ss", "-Hltn").Output()
		return err
	})
	return strings.Join(strings.Fields(string(out)), " ")
}

func TestKilledAgentLeavesNothing(t *testing.T) {
	n := testnet.New(t)
	g := testnet.NewCgroup(t, "")
	mustListen(t, n.Target, port)
	before := listening(t, n.Target)
	agent := mustStart(t, n.Target, nil, "agent", "/proc/self/exe", n.Target.Name, "8080", g.Path)
	census := mustCensus(t, n.Target)
	if len(census.Links) != 3 || len(census.Programs) != 3 || len(census.Maps) < 5 {
		t.Errorf("census does not see all: %+v", census)
	}
	for name, way := range ways(n, port) {
		t.Run(name, func(t *testing.T) { mustGreet(t, way.from, way.to, "local") })
	}
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	agent.Wait()
	for name, way := range ways(n, port) {
		t.Run("killed, "+name, func(t *testing.T) { mustGreet(t, way.from, way.to, "original") })
	}
	// The kernel frees maps in a worker, a grace period after the last descriptor.
	var left bpf.Census
	eventually(t, "nothing is left", func() (ok bool) {
		var err error
		if left, err = census.Left(); err != nil {
			t.Fatal(err)
		}
		return left.Empty()
	})
	if again := mustCensus(t, n.Target); !again.Empty() {
		t.Errorf("left in the namespace: %+v", again)
	}
	if after := listening(t, n.Target); after != before {
		t.Errorf("listening before: %s, after: %s", before, after)
	}
}

func TestAfterAKillUnderLoadEachNewConnectionReachesTheOriginal(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	agent := mustStart(t, n.Target, nil, "agent", "/proc/self/exe", n.Target.Name, "8080", "")
	var killed, stop atomic.Bool
	var after atomic.Int64
	var clients sync.WaitGroup
	for _, way := range ways(n, port) {
		clients.Go(func() {
			for !stop.Load() {
				dead := killed.Load()
				err := talk(way.from, way.to, "original")
				if !dead {
					continue // a connection of the agent's may go down with it
				}
				if after.Add(1); err != nil {
					t.Errorf("after the kill: %v", err)
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond) // of load
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	agent.Wait()
	killed.Store(true)
	eventually(t, "many have come after the kill", func() bool { return after.Load() > 500 })
	stop.Store(true)
	clients.Wait()
}

func TestStoppedAgentLetsConnectionsPassUntilItGoesOn(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	agent := mustStart(t, n.Target, nil, "agent", "/proc/self/exe", n.Target.Name, "8080", "")
	to := netip.AddrPortFrom(n.Target.Addr4, port)
	mustGreet(t, n.Client, to, "local")
	if err := agent.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	answers := func(who string) func() bool {
		return func() bool {
			c, err := dial(n.Client, to)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			line, _ := readLine(c)
			return line == greeting(who, addrPort(c.LocalAddr()), to)
		}
	}
	if took := eventually(t, "the original answers", answers("original")); took > time.Second {
		t.Errorf("connections passed after %v only", took)
	}
	for range 10 {
		mustGreet(t, n.Client, to, "original")
	}
	if err := agent.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if took := eventually(t, "the agent answers again", answers("local")); took > time.Second {
		t.Errorf("connections were ours again after %v only", took)
	}
}

func TestHeartbeatSurvivesABusyProcess(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "", port)
	go answerAll(r)
	var stop atomic.Bool
	defer stop.Store(true)
	for range 8 {
		go func() {
			for !stop.Load() {
			}
		}()
	}
	for deadline := time.Now().Add(1500 * time.Millisecond); time.Now().Before(deadline); {
		mustGreet(t, n.Client, netip.AddrPortFrom(n.Target.Addr4, port), "local").Close()
	}
}

// TestConnectionsPassByWhereThereAreTooMany: each connection that passes through needs a source, and there are not more than the ports of an address.
func TestConnectionsPassByWhereThereAreTooMany(t *testing.T) {
	n := testnet.New(t)
	mustSet(t, n.Target, "ipv4/ip_local_port_range", "40000 40063")
	mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "", port)
	go passAll(t, r)
	for _, addr := range []netip.Addr{n.Target.Addr6, n.Target.Addr4} {
		to := netip.AddrPortFrom(addr, port)
		var open []net.Conn
		for range 50 {
			c, err := dial(n.Client, to)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			open = append(open, c)
			if line, err := readLine(c); err != nil || !strings.HasPrefix(line, "original ") {
				t.Fatalf("connection %d to %v: %q, %v", len(open), to, line, err)
			}
		}
		for _, c := range open {
			mustEcho(t, c)
			c.Close()
		}
		eventually(t, "connections come to us again", func() bool {
			c, err := dial(n.Client, to)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			line, err := readLine(c)
			return err == nil && line != greeting("original", addrPort(c.LocalAddr()), to) // addresses are not restored here
		})
	}
}

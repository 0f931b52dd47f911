package steal

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/bpf"
	"github.com/magpie-k8s/magpie/internal/testnet"
)

func TestClaimedPortComesToUsFromEverywhere(t *testing.T) {
	for _, listens := range []bool{true, false} {
		n := testnet.New(t)
		if listens {
			mustListen(t, n.Target, port)
		}
		r := mustOpen(t, n.Target, "", port)
		go answerAll(r)
		for name, way := range ways(n, port) {
			t.Run(name, func(t *testing.T) { mustGreet(t, way.from, way.to, "local") })
		}
	}
}

func TestUnclaimedPortStaysWithTheOriginal(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "", port+1)
	go answerAll(r)
	for name, way := range ways(n, port) {
		t.Run(name, func(t *testing.T) { mustGreet(t, way.from, way.to, "original") })
	}
}

func TestOpenConnectionsAreLeftAloneByClaimAndRelease(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "")
	go answerAll(r)
	for name, way := range ways(n, port) {
		t.Run(name, func(t *testing.T) {
			before := mustGreet(t, way.from, way.to, "original")
			mustClaim(t, r, port)
			stolen := mustGreet(t, way.from, way.to, "local")
			mustEcho(t, before)
			if err := r.Release(port); err != nil {
				t.Fatal(err)
			}
			mustEcho(t, stolen)
			mustGreet(t, way.from, way.to, "original")
			mustEcho(t, before)
		})
	}
}

func TestNoClientSeesAClaimComeAndGo(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "")
	go passAll(t, r)
	var stop atomic.Bool
	var clients sync.WaitGroup
	var talks atomic.Int64
	for name, way := range ways(n, port) {
		clients.Go(func() {
			for !stop.Load() {
				if err := talk(way.from, way.to, "original"); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				talks.Add(1)
			}
		})
	}
	for range 200 {
		mustClaim(t, r, port)
		seen := talks.Load()
		eventually(t, "traffic flows", func() bool { return talks.Load() > seen+20 })
		if err := r.Release(port); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	clients.Wait()
}

func TestReleaseOfOnePortKeepsTheOthers(t *testing.T) {
	n := testnet.New(t)
	ports := []uint16{port, port + 1, port + 2}
	for _, p := range ports {
		mustListen(t, n.Target, p)
	}
	r := mustOpen(t, n.Target, "", ports...)
	go answerAll(r)
	if err := r.Claim(port); err == nil {
		t.Error("a port was claimed twice")
	}
	for range 2 { // the second time changes nothing
		if err := r.Release(port + 1); err != nil {
			t.Fatal(err)
		}
	}
	for i, who := range []string{"local", "original", "local"} {
		mustGreet(t, n.Client, netip.AddrPortFrom(n.Target.Addr4, ports[i]), who)
	}
}

func TestWhatWaitsAtReleaseStillComesOutOfAccept(t *testing.T) {
	n := testnet.New(t)
	r := mustOpen(t, n.Target, "", port)
	for range 3 {
		c, err := dial(n.Client, netip.AddrPortFrom(n.Target.Addr6, port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if err := r.Release(port); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c, err := r.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

func TestOriginalRestartsBesideStolenConnections(t *testing.T) {
	n := testnet.New(t)
	original := mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "", port)
	go answerAll(r)
	to := netip.AddrPortFrom(n.Target.Addr4, port)
	stolen := mustGreet(t, n.Client, to, "local")
	original.Close()
	mustListen(t, n.Target, port)
	if err := r.Release(port); err != nil {
		t.Fatal(err)
	}
	mustGreet(t, n.Client, to, "original")
	mustEcho(t, stolen)
}

func TestWhoDialsTheListenerItselfIsTurnedAway(t *testing.T) {
	n := testnet.New(t)
	r := mustOpen(t, n.Target, "", port)
	go answerAll(r)
	for i, addr := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		c, err := dial(n.Target, netip.AddrPortFrom(addr, r.listeners[i].port))
		if errors.Is(err, syscall.ECONNRESET) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, err := io.ReadAll(c); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read %q, %v", got, err)
		}
	}
}

func TestWhenNobodyAcceptsNewConnectionsPass(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "", port)
	to := netip.AddrPortFrom(n.Target.Addr4, port)
	waiting, err := dial(n.Client, to)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	// The ones before we notice wait, too; they are the local process's, when someone accepts at last.
	eventually(t, "the original answers", func() bool {
		c, err := dial(n.Client, to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		line, _ := readLine(c)
		return line == greeting("original", addrPort(c.LocalAddr()), to)
	})
	go answerAll(r)
	if line, err := readLine(waiting); line != greeting("local", addrPort(waiting.LocalAddr()), to) {
		t.Errorf("who waited got %q, %v", line, err)
	}
	eventually(t, "new connections are ours again", func() bool {
		c, err := dial(n.Client, to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		line, _ := readLine(c)
		return line == greeting("local", addrPort(c.LocalAddr()), to)
	})
}

func TestCloseUnblocksAcceptAndIsSafeTwice(t *testing.T) {
	r := mustOpen(t, testnet.Lone(t), "", port)
	failed := make(chan error)
	go func() {
		_, err := r.Accept()
		failed <- err
	}()
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if err := r.Claim(port + 1); !errors.Is(err, net.ErrClosed) {
		t.Errorf("claim: %v", err)
	}
	if err := r.Release(port); err != nil {
		t.Errorf("release: %v", err)
	}
}

func TestCloseGivesThePortBack(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "", port)
	go answerAll(r)
	to := netip.AddrPortFrom(n.Target.Addr4, port)
	stolen := mustGreet(t, n.Client, to, "local")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	mustGreet(t, n.Client, to, "original")
	mustEcho(t, stolen)
}

func TestSecondAgentIsRefusedAndTheFirstGoesOn(t *testing.T) {
	n := testnet.New(t)
	r := mustOpen(t, n.Target, "", port)
	go answerAll(r)
	if _, err := Open(n.Target.NS, "", Config{}); !errors.Is(err, bpf.ErrTaken) {
		t.Errorf("got %v", err)
	}
	mustGreet(t, n.Client, netip.AddrPortFrom(n.Target.Addr4, port), "local")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, n.Target, "", port)
}

// An agent that leaves may have to wait for the connections that it passes, and its successor not for it.
func TestOneThatYieldsLetsAnotherInAndKeepsItsConnections(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	first := mustOpen(t, n.Target, "", port)
	go passAll(t, first)
	to := netip.AddrPortFrom(n.Target.Addr4, port)
	passed, err := dial(n.Client, to)
	if err != nil {
		t.Fatal(err)
	}
	defer passed.Close()
	if got, err := readLine(passed); err != nil || !strings.HasPrefix(got, "original") {
		t.Fatalf("%q, %v", got, err)
	}
	for range 2 {
		if err := first.Yield(); err != nil {
			t.Fatal(err)
		}
	}
	mustGreet(t, n.Client, to, "original")
	begin := time.Now()
	second := mustOpen(t, n.Target, "", port)
	if waited := time.Since(begin); waited > guardPatience {
		t.Errorf("the next one waited for %v", waited)
	}
	go answerAll(second)
	mustGreet(t, n.Client, to, "local")
	mustEcho(t, passed)
	if err := first.Claim(port + 1); err == nil {
		t.Error("one that yielded claims")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	mustGreet(t, n.Client, to, "local")
}

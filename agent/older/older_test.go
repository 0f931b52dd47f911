package older

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/agent/steal"
	"github.com/magpie-k8s/magpie/internal/testnet"
)

// ways are the ways to the port: from the client and from the target itself.
func ways(n *testnet.Net) map[netip.Addr]*testnet.Host {
	return map[netip.Addr]*testnet.Host{
		n.Target.Addr4: n.Client, n.Target.Addr6: n.Client, n.Target.Link.WithZone(n.Client.Link.Zone()): n.Client,
		netip.MustParseAddr("127.0.0.1"): n.Target, netip.IPv6Loopback(): n.Target,
	}
}

func withoutZone(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}

// TestOlderConnectionsAreFound on every way, when the original listens on all addresses with one socket (IPv4 is mapped then), and with one for each family.
func TestOlderConnectionsAreFound(t *testing.T) {
	for name, listeners := range map[string][]string{"one socket": {"tcp [::]:8080"}, "one for each family": {"tcp4 0.0.0.0:8080", "tcp6 [::]:8080"}} {
		t.Run(name, func(t *testing.T) {
			n := testnet.New(t)
			for _, l := range listeners {
				var network, addr string
				fmt.Sscan(l, &network, &addr)
				mustStart(t, n.Target, nil, "echo", network, addr)
			}
			want := map[netip.AddrPort]netip.Addr{}
			var clients []client
			for to, from := range ways(n) {
				c := mustDial(t, from, to)
				c.mustEcho(t)
				clients = append(clients, c)
				want[withoutZone(c.addr)] = to.WithZone("")
			}
			mustClaim(t, n.Target, func(net.Listener) {})
			found := mustFind(t, n.Target)
			if found.Len() != len(want) {
				t.Errorf("%d found: %+v", found.Len(), found.All())
			}
			for _, c := range found.All() {
				if to, ok := want[withoutZone(c.Client)]; !ok || c.Local.Addr().WithZone("") != to || c.Local.Port() != port || c.Cookie == 0 {
					t.Errorf("found %+v; want %v", c, want)
				}
				if c.Unread != 0 || c.Unsent != 0 || c.Idle > patience {
					t.Errorf("not as it is: %+v", c)
				}
				if c.Local.Addr().IsLinkLocalUnicast() && c.Local.Addr().Zone() != n.Target.Link.Zone() {
					t.Errorf("%v has another zone than %v", c.Local, n.Target.Link)
				}
			}
			if !slices.IsSortedFunc(found.All(), func(a, b Connection) int { return int(b.Idle - a.Idle) }) {
				t.Errorf("not in order: %+v", found.All())
			}
			for _, c := range clients {
				c.mustEcho(t) // nobody has noticed
			}
		})
	}
}

// TestWhatPassesThroughUsIsNotOlder neither as the client's connection nor as ours to the original, also when it is older than a second claim.
func TestWhatPassesThroughUsIsNotOlder(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	old := mustDial(t, n.Client, n.Target.Addr4)
	old.mustEcho(t)
	ready := make(chan *steal.Redirect, 1)
	ready <- mustClaim(t, n.Target, func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := <-ready
			go passOne(r, c.(*net.TCPConn))
			ready <- r
		}
	})
	for to, from := range ways(n) {
		mustDial(t, from, to).mustEcho(t)
	}
	found := mustFind(t, n.Target)
	if found.Len() != 1 || found.All()[0].Client != old.addr {
		t.Errorf("found %+v; want %v only", found.All(), old.addr)
	}
	// Connections come and go all the time, and are never taken for older ones.
	for range 30 {
		c := mustConnect(t, n)
		if found := mustFind(t, n.Target); found.Len() != 1 {
			t.Errorf("found %+v", found.All())
		}
		c.Close()
	}
}

func mustConnect(tb testing.TB, n *testnet.Net) (c net.Conn) {
	tb.Helper()
	n.Client.Do(tb, func() (err error) {
		c, err = net.DialTimeout("tcp", netip.AddrPortFrom(n.Target.Addr4, port).String(), patience)
		return err
	})
	return c
}

func passOne(r *steal.Redirect, c *net.TCPConn) {
	defer c.Close()
	up, err := r.DialOriginal(context.Background(), c.RemoteAddr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort())
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		io.Copy(up, c)
		up.CloseWrite()
	}()
	io.Copy(c, up)
}

func TestClientsThatHaveHungUpAreNotOlder(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "hold", "tcp", "[::]:8080") // and keeps its side
	c := mustDial(t, n.Client, n.Target.Addr4)
	eventually(t, "accepted", func() bool { return mustFind(t, n.Target).Len() == 1 })
	c.tell(t, "hang up")
	eventually(t, "gone", func() bool { return mustFind(t, n.Target).Len() == 0 })
}

// TestConnectionsThatTheTargetOpenedAreNotOlder even if they come from the claimed port.
func TestConnectionsThatTheTargetOpenedAreNotOlder(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Client, nil, "echo", "tcp", "[::]:9000")
	mustStart(t, n.Target, nil, "echo", "tcp", "127.0.0.1:8080")
	to := net.JoinHostPort(n.Client.Addr4.String(), "9000")
	cmd := exec.Command("python3", "-c", `
import socket, sys
s = socket.create_connection((sys.argv[1], 9000), source_address=(sys.argv[2], 8080)); print("ready", flush=True); sys.stdin.read()`, n.Client.Addr4.String(), n.Target.Addr4.String())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	n.Target.Start(t, cmd)
	if _, err := io.ReadFull(out, make([]byte, len("ready"))); err != nil {
		t.Fatalf("no connection to %s from port 8080: %v", to, err)
	}
	mustDial(t, n.Target, netip.MustParseAddr("127.0.0.1")).mustEcho(t)
	if found := mustFind(t, n.Target); found.Len() != 1 || !found.All()[0].Client.Addr().IsLoopback() {
		t.Errorf("found %+v", found.All())
	}
}

func TestOtherPortsAreNotLookedAt(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	mustDial(t, n.Client, n.Target.Addr4).mustEcho(t)
	found, err := Find(t.Context(), n.Target.NS, port+1)
	if err != nil || found.Len() != 0 {
		t.Errorf("found %+v, %v", found.All(), err)
	}
}

func TestAFindThatIsGivenUpSaysSo(t *testing.T) {
	h := testnet.Lone(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found, err := Find(ctx, h.NS, port); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", found, err)
	}
}

// deferAccept lets connections wait in SYN_RECV until their client has said something.
func deferAccept(l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_DEFER_ACCEPT, 20)
	})
	return errors.Join(err, failed)
}

const crowd = 20_000 // in two families, since a test may have 20,000 descriptors

func mustCrowd(tb testing.TB) *testnet.Net {
	tb.Helper()
	n := testnet.New(tb)
	mustStart(tb, n.Target, nil, "hold", "tcp4", "0.0.0.0:8080")
	mustStart(tb, n.Target, nil, "hold", "tcp6", "[::]:8080")
	for _, to := range []netip.Addr{n.Target.Addr4, n.Target.Addr6} {
		mustStart(tb, n.Client, nil, "dialmany", netip.AddrPortFrom(to, port).String(), fmt.Sprint(crowd/2))
	}
	return n
}

func TestTwentyThousandConnectionsAreFoundInTime(t *testing.T) {
	n := mustCrowd(t)
	mustClaim(t, n.Target, func(net.Listener) {})
	eventually(t, "accepted", func() bool { return mustFind(t, n.Target).Len() == crowd })
	for p, want := range map[uint16]int{port: crowd, port + 1: 0} {
		begin, cpu := time.Now(), cpuTime()
		found, err := Find(t.Context(), n.Target.NS, p)
		took := time.Since(begin)
		if err != nil || found.Len() != want {
			t.Errorf("port %d: %d found, %v", p, found.Len(), err)
		}
		t.Logf("port %d: %d of %d connections found in %v, %v of a processor", p, found.Len(), crowd, took, cpuTime()-cpu)
		if took > time.Second { // a tenth of it on an idle machine
			t.Errorf("that took %v", took)
		}
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFind among twenty thousand connections, all of them older.
func BenchmarkFind(b *testing.B) {
	n := mustCrowd(b)
	for b.Loop() {
		mustFind(b, n.Target)
	}
}

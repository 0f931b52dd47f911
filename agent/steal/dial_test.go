package steal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/bpf"
	"github.com/magpie-k8s/magpie/internal/testnet"
)

func TestPassedConnectionReachesTheOriginalPastUs(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "", port)
	go passAll(t, r)
	for name, way := range ways(n, port) {
		t.Run(name, func(t *testing.T) {
			c, err := dial(way.from, way.to)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			// Without a cgroup, the source is the address that was dialled.
			got, err := readLine(c)
			if err != nil {
				t.Fatal(err)
			}
			var who string
			var client, dialled netip.AddrPort
			var clientText, dialledText string
			if _, err := fmt.Sscan(got, &who, &clientText, &dialledText); err != nil {
				t.Fatal(err)
			}
			client, dialled = netip.MustParseAddrPort(clientText), netip.MustParseAddrPort(dialledText)
			if who != "original" || dialled != noZone(way.to) || client.Addr() != dialled.Addr() {
				t.Errorf("got %q", got)
			}
			mustEcho(t, c)
		})
	}
}

func TestLinkLocalAddressNeedsNoNameThatWeKnow(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	n.Target.Do(t, func() error { // Go may take the index for an interface of the namespace that we are in
		link, err := netlink.LinkByName(testnet.Device)
		if err != nil {
			return err
		}
		return netlink.LinkSetName(link, "pod0")
	})
	r := mustOpen(t, n.Target, "", port)
	go passAll(t, r)
	mustEcho(t, mustRead(t, n.Client, netip.AddrPortFrom(n.Target.Link.WithZone(n.Client.Link.Zone()), port)))
}

// mustRead connects and reads the greeting.
func mustRead(tb testing.TB, h *testnet.Host, to netip.AddrPort) net.Conn {
	tb.Helper()
	c, err := dial(h, to)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	if _, err := readLine(c); err != nil {
		tb.Fatal(err)
	}
	return c
}

// nginx is one program that cannot be told by its arguments alone where to listen.
const nginxConf = `daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
	server { listen 8080; listen [::]:8080; return 200 "original $remote_addr $remote_port\n"; }
	server { listen [::]:8081 ipv6only=off; return 200 "original $remote_addr $remote_port\n"; }
}
`

const pythonServer = `
import socket, threading, sys
def greet(c):
    a, p = c.getpeername()[:2]
    c.sendall(("original %s %d\n" % (a, p)).encode()); c.close()
def serve(l):
    while True:
        c, _ = l.accept(); threading.Thread(target=greet, args=(c,)).start()
def listen(family, addr, port, dual):
    l = socket.socket(family); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: l.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
    l.bind((addr, port)); l.listen(); threading.Thread(target=serve, args=(l,)).start()
listen(socket.AF_INET, "0.0.0.0", 8080, False); listen(socket.AF_INET6, "::", 8080, False); listen(socket.AF_INET6, "::", 8081, True)
print("ready", flush=True)
`

// TestOriginalSeesTheClient: port 8080 is a socket for each family, 8081 a dual-stack one, which sees IPv4 as v4-mapped.
func TestOriginalSeesTheClient(t *testing.T) {
	originals := map[string]func(*testing.T, *testnet.Host, *testnet.Cgroup){
		"Go": func(t *testing.T, h *testnet.Host, g *testnet.Cgroup) {
			mustStart(t, h, g, "original", "/proc/self/exe", "0.0.0.0:8080")
			mustStart(t, h, g, "original", "/proc/self/exe", "[::]:8081")
		},
		"Python": func(t *testing.T, h *testnet.Host, g *testnet.Cgroup) {
			mustStart(t, h, g, "", "/usr/bin/python3", "-c", pythonServer)
		},
		"nginx": func(t *testing.T, h *testnet.Host, g *testnet.Cgroup) {
			dir := t.TempDir()
			conf := filepath.Join(dir, "conf")
			if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir), 0o644); err != nil {
				t.Fatal(err)
			}
			// The shell says that it is ready, nginx does not.
			mustStart(t, h, g, "", "sh", "-c", "echo ready; exec nginx -e stderr -c "+conf)
			for _, p := range []uint16{8080, 8081} {
				eventually(t, "nginx listens", func() bool {
					c, err := dial(h, netip.AddrPortFrom(h.Addr6, p))
					if err == nil {
						c.Close()
					}
					return err == nil
				})
			}
		},
	}
	for name, start := range originals {
		t.Run(name, func(t *testing.T) {
			n := testnet.New(t)
			pod := testnet.NewCgroup(t, "")
			start(t, n.Target, testnet.NewCgroup(t, pod.Path))
			r := mustOpen(t, n.Target, pod.Path, 8080, 8081)
			go passAll(t, r)
			for _, port := range []uint16{8080, 8081} {
				for wayName, way := range ways(n, port) {
					if name == "Go" && port == 8080 && way.to.Addr().Is6() {
						continue // it listens there on IPv4 alone, as net.Listen cannot do both apart
					}
					t.Run(fmt.Sprintf("%d %s", port, wayName), func(t *testing.T) { mustSeeClient(t, way) })
				}
			}
		})
	}
}

// mustSeeClient asks the original for our address, in HTTP for those who understand nothing else.
func mustSeeClient(t *testing.T, way way) {
	t.Helper()
	c, err := dial(way.from, way.to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	c.(*net.TCPConn).CloseWrite()
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	me := noZone(addrPort(c.LocalAddr()))
	for _, form := range []string{
		fmt.Sprintf("original %v %d\n", me.Addr(), me.Port()),
		fmt.Sprintf("original ::ffff:%v %d\n", me.Addr(), me.Port()),
		"original " + me.String() + " ",
	} {
		if strings.Contains(string(all), form) {
			return
		}
	}
	t.Errorf("original says %q, we are %v", all, me)
}

func TestOtherNamespacesOfTheCgroupAreNotTouched(t *testing.T) {
	n, other := testnet.New(t), testnet.Lone(t)
	g := testnet.NewCgroup(t, "")
	mustStart(t, n.Target, g, "original", "/proc/self/exe", "0.0.0.0:8080")
	mustStart(t, other, g, "original", "/proc/self/exe", "0.0.0.0:8080")
	r := mustOpen(t, n.Target, g.Path, port)
	client := netip.MustParseAddrPort("198.18.7.77:7777")
	up, err := r.DialOriginal(t.Context(), client, netip.MustParseAddrPort("127.0.0.1:8080"))
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if got, _ := readLine(up); got != "original 198.18.7.77:7777 127.0.0.1:8080" {
		t.Fatalf("in the target: %q", got)
	}
	// The same source, destination and cgroup, but another namespace.
	d := net.Dialer{LocalAddr: up.LocalAddr(), Timeout: patience}
	var c net.Conn
	other.Do(t, func() (err error) {
		c, err = d.Dial("tcp", "127.0.0.1:8080")
		return err
	})
	defer c.Close()
	if got, _ := readLine(c); got != "original "+up.LocalAddr().String()+" 127.0.0.1:8080" {
		t.Errorf("in the other namespace: %q", got)
	}
}

func TestBusyOriginalSeesAClientThatHasLeftAlready(t *testing.T) {
	n := testnet.New(t)
	g := testnet.NewCgroup(t, "")
	const slow = `
import socket
l = socket.socket(); l.bind(("0.0.0.0", 8080)); l.listen(); print("ready", flush=True)
input(); c, a = l.accept(); print("%s:%d" % a, flush=True)
`
	original := mustStart(t, n.Target, g, "", "/usr/bin/python3", "-c", slow)
	r := mustOpen(t, n.Target, g.Path, port)
	client := netip.MustParseAddrPort("198.18.7.77:7777")
	up, err := r.DialOriginal(t.Context(), client, netip.AddrPortFrom(n.Target.Addr4, port))
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Close(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(original.in, "go on")
	if got, err := readLine(original.out); got != client.String() {
		t.Errorf("accept says %q, %v", got, err)
	}
	if n := len(r.sources.inUse); n != 1 {
		t.Errorf("%d sources in use, want 1 that is remembered", n)
	}
	if err := r.sources.expire(time.Now().Add(2 * rememberFor)); err != nil {
		t.Error(err)
	}
	if n := len(r.sources.inUse); n != 0 {
		t.Errorf("%d sources are never forgotten", n)
	}
}

func TestFiveThousandShortConnectionsLeaveNothing(t *testing.T) {
	const total, atOnce = 5000, 32
	n := testnet.New(t)
	g := testnet.NewCgroup(t, "")
	mustStart(t, n.Target, g, "", "/usr/bin/python3", "-c", pythonServer)
	r := mustOpen(t, n.Target, g.Path, port)
	go passAll(t, r)
	before := len(ownDescriptors("socket:"))
	var clients sync.WaitGroup
	for range atOnce {
		clients.Go(func() {
			for range total / atOnce {
				c, err := dial(n.Client, netip.AddrPortFrom(n.Target.Addr4, port))
				if err != nil {
					t.Error(err)
					return
				}
				me := addrPort(c.LocalAddr())
				if all, err := io.ReadAll(c); err != nil || string(all) != fmt.Sprintf("original %v %d\n", me.Addr(), me.Port()) {
					t.Errorf("read %q, %v; we are %v", all, err, me)
				}
				c.Close()
			}
		})
	}
	clients.Wait()
	took := eventually(t, "no source is in use", func() bool {
		r.sources.mu.Lock()
		defer r.sources.mu.Unlock()
		return len(r.sources.inUse) == 0
	})
	if took > rememberFor/2 {
		t.Errorf("connections that the original closed were remembered: it took %v", took)
	}
	if after := len(ownDescriptors("socket:")); after > before {
		t.Errorf("%d sockets before, %d after", before, after)
	}
	if n, err := r.steal.CountPassed(); n != 0 || err != nil {
		t.Errorf("%d entries in the kernel, %v", n, err)
	}
}

func TestDialOriginalGivesTheErrno(t *testing.T) {
	n := testnet.New(t)
	r := mustOpen(t, n.Target, "", port)
	client := netip.MustParseAddrPort("198.18.7.1:7777")
	for _, addr := range []netip.Addr{n.Target.Addr4, n.Target.Addr6, n.Target.Link} {
		if _, err := r.DialOriginal(t.Context(), client, netip.AddrPortFrom(addr, port)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens on %v: %v", addr, err)
		}
	}
	if _, err := r.DialOriginal(t.Context(), client, netip.MustParseAddrPort("198.18.99.99:8080")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("not an address of the target: %v", err)
	}
	if len(r.sources.inUse) != 0 {
		t.Errorf("sources in use: %v", r.sources.inUse)
	}
}

func TestUpstreamIsPlainTCPWithoutDelay(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "", port)
	for _, addr := range []netip.Addr{n.Target.Addr4, n.Target.Addr6} {
		c, err := r.DialOriginal(t.Context(), netip.MustParseAddrPort("198.18.7.1:7777"), netip.AddrPortFrom(addr, port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, opt := range []struct{ level, name, want int }{
			{unix.SOL_SOCKET, unix.SO_PROTOCOL, unix.IPPROTO_TCP},
			{unix.SOL_TCP, unix.TCP_NODELAY, 1},
		} {
			var got int
			err := onFD(c, func(fd int) (err error) {
				got, err = unix.GetsockoptInt(fd, opt.level, opt.name)
				return err
			})
			if got != opt.want || err != nil {
				t.Errorf("%v: option %d.%d is %d (%v), want %d", addr, opt.level, opt.name, got, err, opt.want)
			}
		}
	}
}

func TestDialOriginalEndsWithItsContext(t *testing.T) {
	n := testnet.New(t)
	// A backlog of one that nobody accepts from: the third handshake hangs.
	n.Target.Do(t, func() error {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { syscall.Close(fd) })
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port}); err != nil {
			return err
		}
		return syscall.Listen(fd, 0)
	})
	r := mustOpen(t, n.Target, "", port)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for {
		c, err := r.DialOriginal(ctx, netip.MustParseAddrPort("198.18.7.1:7777"), netip.AddrPortFrom(n.Target.Addr4, port))
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			return
		}
		defer c.Close()
	}
}

func TestOwnConnectionThatComesBackIsRefused(t *testing.T) {
	n := testnet.New(t)
	r := mustOpen(t, n.Target, "", port)
	go answerAll(r)
	// As if the kernel did not know it.
	src, err := r.sources.reserve(netip.MustParseAddr("127.0.0.1"), true, r.claimed)
	if err != nil {
		t.Fatal(err)
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(src), Timeout: patience}
	err = n.Target.NS.Do(func() error {
		c, err := d.Dial("tcp", "127.0.0.1:8080")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = readLine(c)
		return err
	})
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
}

func TestTooManyConnectionsAreRefusedAndTheRememberedGoFirst(t *testing.T) {
	n := testnet.New(t)
	mustListen(t, n.Target, port)
	r := mustOpen(t, n.Target, "", port)
	client, local := netip.MustParseAddrPort("198.18.7.1:7777"), netip.AddrPortFrom(n.Target.Addr4, port)
	for i := range r.steal.MaxPassed() {
		r.sources.inUse[netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)] = &use{}
	}
	if _, err := r.DialOriginal(t.Context(), client, local); !errors.Is(err, bpf.ErrFull) {
		t.Errorf("got %v", err)
	}
	if err := r.sources.release(netip.MustParseAddrPort("10.0.0.7:1"), true); err != nil {
		t.Fatal(err)
	}
	c, err := r.DialOriginal(t.Context(), client, local)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

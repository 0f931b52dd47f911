package layer_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// The addresses of the world. Names follow from the pod's resolv.conf, hosts file and DNS server.
const (
	podV4    = "198.18.0.9"
	podV6    = "fd18::9"
	webV4    = "198.18.0.20" // answers HTTP on 80 and echoes datagrams on 7; refuses 81
	webV6    = "fd18::20"
	slowV4   = "198.18.0.70" // like web, but connections to it take slowness
	dbV4     = "198.18.0.30" // in the hosts file alone
	dnsV4    = "198.18.0.53"
	clientV4 = "198.18.0.50" // clients of the pod call from here
	clientV6 = "fd18::50"
	noRoute  = "198.19.0.1"  // no route to host
	silent   = "198.19.77.1" // drops what it gets
)

// podFiles are what the pod's processes see in /etc.
var podFiles = map[string][]byte{
	"/etc/resolv.conf":   []byte("nameserver " + dnsV4 + "\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"),
	"/etc/hosts":         []byte("127.0.0.1 localhost\n::1 localhost\n" + dbV4 + " db\n" + podV4 + " shop-1\n"),
	"/etc/nsswitch.conf": []byte("passwd: files\nhosts: files dns\n"),
}

// world is a pod's network with its neighbours, and a host without a route to any of them.
type world struct {
	host *space // where supervisors run: loopback and nothing else
	pod  *space
	net  *space // the neighbours of the pod and its clients
}

// mustWorld builds a world that goes with the test.
func mustWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{host: mustSpace(tb), pod: mustSpace(tb), net: mustSpace(tb)}
	w.pod.mustIP(tb, "link add eth0 type veth peer name eth0 netns "+w.net.path())
	w.pod.mustIP(tb, "addr add "+podV4+"/16 dev eth0", "addr add "+podV6+"/64 dev eth0 nodad")
	for _, a := range []string{"198.18.0.1", webV4, slowV4, dbV4, dnsV4, clientV4} {
		w.net.mustIP(tb, "addr add "+a+"/16 dev eth0")
	}
	for _, a := range []string{webV6, clientV6} {
		w.net.mustIP(tb, "addr add "+a+"/64 dev eth0 nodad")
	}
	for _, s := range []*space{w.pod, w.net} {
		s.mustIP(tb, "link set lo up", "link set eth0 up")
	}
	w.host.mustIP(tb, "link set lo up")
	w.pod.mustIP(tb, "route add unreachable 198.19.0.0/24", "route add 198.19.77.0/24 via 198.18.0.1")
	w.net.mustIP(tb, "route add blackhole 198.19.77.0/24")
	w.mustServe(tb)
	return w
}

// mustServe starts the neighbours: DNS, HTTP and an echo of datagrams.
func (w *world) mustServe(tb testing.TB) {
	tb.Helper()
	dns, dnsTCP := w.net.mustListenUDP(tb, dnsV4+":53"), w.net.mustListen(tb, dnsV4+":53")
	go answerDatagrams(dns, func(q []byte) []byte { return answerName(q, false) })
	go answerNamesTCP(dnsTCP)
	for _, a := range []string{webV4, webV6, dbV4} {
		echo := w.net.mustListenUDP(tb, net.JoinHostPort(a, "7"))
		go answerDatagrams(echo, func(b []byte) []byte { return b })
	}
	web := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "web says hello to %s\n", mustAddrPort(r.RemoteAddr).Addr())
	})}
	tb.Cleanup(func() { web.Close() })
	for _, a := range []string{webV4, webV6, slowV4, dbV4} {
		go web.Serve(w.net.mustListen(tb, net.JoinHostPort(a, "80")))
	}
}

func answerDatagrams(c net.PacketConn, answer func([]byte) []byte) {
	buf := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if a := answer(buf[:n]); err == nil && a != nil {
			c.WriteTo(a, from)
		}
	}
}

func answerNamesTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for {
				var size [2]byte
				if _, err := io.ReadFull(c, size[:]); err != nil {
					return
				}
				q := make([]byte, binary.BigEndian.Uint16(size[:]))
				io.ReadFull(c, q)
				a := answerName(q, true)
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
			}
		}()
	}
}

// answerName is the cluster's DNS: web, web6, slow, and "many", whose 60 addresses do not fit a datagram.
func answerName(query []byte, tcp bool) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	head := dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true, RecursionAvailable: true, RecursionDesired: h.RecursionDesired}
	var body []dnsmessage.ResourceBody
	switch name, _ := strings.CutSuffix(strings.ToLower(q.Name.String()), ".shop.svc.cluster.local."); {
	case name == "web" && q.Type == dnsmessage.TypeA:
		body = append(body, a4(webV4))
	case name == "slow" && q.Type == dnsmessage.TypeA:
		body = append(body, a4(slowV4))
	case name == "web6" && q.Type == dnsmessage.TypeAAAA:
		body = append(body, &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(webV6).As16()})
	case name == "many" && q.Type == dnsmessage.TypeA && tcp:
		for i := range 60 {
			body = append(body, a4(fmt.Sprintf("198.18.1.%d", i)))
		}
	case name == "many":
		head.Truncated = !tcp && q.Type == dnsmessage.TypeA
	case name == "web", name == "slow", name == "web6":
	default:
		head.RCode = dnsmessage.RCodeNameError
	}
	m := dnsmessage.Message{Header: head, Questions: []dnsmessage.Question{q}}
	for _, b := range body {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 5}, Body: b})
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

func a4(s string) *dnsmessage.AResource {
	return &dnsmessage.AResource{A: netip.MustParseAddr(s).As4()}
}

func mustAddrPort(s string) netip.AddrPort {
	a := netip.MustParseAddrPort(s)
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// space is a network namespace that lives as long as its descriptor.
type space struct{ fd int }

func mustSpace(tb testing.TB) *space {
	tb.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("MAGPIE_NO_SKIP") == "1" {
			tb.Fatal("needs root to make network namespaces")
		}
		tb.Skip("needs root to make network namespaces")
	}
	s := &space{fd: -1}
	err := onOwnThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		s.fd, err = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		tb.Fatal("make network namespace:", err)
	}
	tb.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// do runs f on a thread inside the namespace. Sockets that f makes and processes that f starts belong there.
func (s *space) do(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(s.fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// onOwnThread runs f on a thread that dies with it, as whatever f did to the thread must not reach other goroutines.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// path names the namespace for other processes, as long as this one lives.
func (s *space) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.fd) }

func (s *space) mustIP(tb testing.TB, commands ...string) {
	tb.Helper()
	for _, c := range commands {
		err := s.do(func() error {
			if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		if err != nil {
			tb.Fatalf("ip %s: %v", c, err)
		}
	}
}

func (s *space) mustListen(tb testing.TB, addr string) (l net.Listener) {
	tb.Helper()
	if err := s.do(func() (err error) { l, err = net.Listen("tcp", addr); return }); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	return l
}

func (s *space) mustListenUDP(tb testing.TB, addr string) (c net.PacketConn) {
	tb.Helper()
	if err := s.do(func() (err error) { c, err = net.ListenPacket("udp", addr); return }); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

package steal

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/magpie-k8s/magpie/internal/netns"
	"github.com/magpie-k8s/magpie/internal/testnet"
)

// roleEnv makes the test binary play another program; its arguments are the role's.
const roleEnv = "MAGPIE_TEST_ROLE"

func TestMain(m *testing.M) {
	roles := map[string]func(args []string) error{"agent": runAgent, "original": runOriginal}
	if role, ok := roles[os.Getenv(roleEnv)]; ok {
		if err := role(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if left := ownDescriptors("anon_inode:bpf"); len(left) > 0 && code == 0 {
		fmt.Fprintln(os.Stderr, "descriptors left:", left)
		code = 1
	}
	os.Exit(code)
}

// ownDescriptors lists what our descriptors that start with kind are.
func ownDescriptors(kind string) (all []string) {
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if what, err := os.Readlink(fd); err == nil && strings.HasPrefix(what, kind) {
			all = append(all, what)
		}
	}
	return all
}

// runAgent claims a port in a namespace, answers as the local process would, and ends when its stdin does: agent NETNS PORT CGROUP
func runAgent(args []string) error {
	var port uint16
	if _, err := fmt.Sscan(args[1], &port); err != nil {
		return err
	}
	ns, err := netns.Named("", args[0])
	if err != nil {
		return err
	}
	r, err := Open(ns, args[2], Config{})
	if err != nil {
		return err
	}
	if err := r.Claim(port); err != nil {
		return err
	}
	fmt.Println("ready")
	go answerAll(r)
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// runOriginal listens in the namespace that it is in: original ADDR
func runOriginal(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	greet(l, "original")
	return nil
}

// greet tells each who connects who we are, who he is, and what he dialled; then it echoes.
func greet(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go greetOne(c, name)
	}
}

func greetOne(c net.Conn, name string) {
	defer c.Close()
	fmt.Fprintln(c, greeting(name, addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())))
	io.Copy(c, c)
}

func greeting(name string, client, dialled netip.AddrPort) string {
	return fmt.Sprintf("%s %v %v", name, noZone(client), noZone(dialled))
}

// noZone leaves out what is different on both sides of a link.
func noZone(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// answerAll plays the local process for all that comes.
func answerAll(r *Redirect) {
	for {
		c, err := r.Accept()
		if err != nil {
			return
		}
		go greetOne(c, "local")
	}
}

// passAll hands all that comes to the original.
func passAll(tb testing.TB, r *Redirect) {
	for {
		c, err := r.Accept()
		if err != nil {
			return
		}
		go passOne(tb, r, c)
	}
}

func passOne(tb testing.TB, r *Redirect, c *net.TCPConn) {
	defer c.Close()
	up, err := r.DialOriginal(context.Background(), addrPort(c.RemoteAddr()), c.LocalAddr().(*net.TCPAddr).AddrPort())
	if err != nil {
		tb.Errorf("dial original: %v", err)
		return
	}
	defer up.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(up, c)
		up.CloseWrite()
	}()
	io.Copy(c, up)
	c.CloseWrite()
	<-done
}

const port = 8080

// mustOpen opens a Redirect that is closed when the test ends.
func mustOpen(tb testing.TB, h *testnet.Host, cgroup string, ports ...uint16) *Redirect {
	tb.Helper()
	r, err := Open(h.NS, cgroup, Config{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	if cgroup != "" && !r.RestoresPeer() {
		tb.Fatalf("addresses are not restored: %v", r.NoRestore())
	}
	mustClaim(tb, r, ports...)
	return r
}

func mustClaim(tb testing.TB, r *Redirect, ports ...uint16) {
	tb.Helper()
	for _, p := range ports {
		if err := r.Claim(p); err != nil {
			tb.Fatal(err)
		}
	}
}

// mustListen lets the original greet on a port of all addresses, from inside this process.
func mustListen(tb testing.TB, h *testnet.Host, port uint16) net.Listener {
	tb.Helper()
	var l net.Listener
	h.Do(tb, func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
	tb.Cleanup(func() { l.Close() })
	go greet(l, "original")
	return l
}

type program struct {
	*os.Process
	in  io.Writer
	out io.Reader
}

// mustStart starts a program inside the namespace, and the cgroup if there is one, and waits until it says that it is ready.
func mustStart(tb testing.TB, h *testnet.Host, g *testnet.Cgroup, role, name string, args ...string) program {
	tb.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	if g != nil {
		g.Put(tb, cmd)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { in.Close() })
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	h.Start(tb, cmd)
	if line, err := readLine(out); line != "ready" {
		tb.Fatalf("%s %s is not ready: %q, %v", name, role, line, err)
	}
	return program{cmd.Process, in, out}
}

const patience = 5 * time.Second

// dial connects from inside a namespace.
func dial(h *testnet.Host, to netip.AddrPort) (net.Conn, error) {
	var c net.Conn
	err := h.NS.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", to.String(), patience)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	return c, nil
}

// mustGreet connects and sees to it that the right one answers, and knows whom and where.
func mustGreet(tb testing.TB, h *testnet.Host, to netip.AddrPort, who string) net.Conn {
	tb.Helper()
	c, err := dial(h, to)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	got, err := readLine(c)
	if err != nil {
		tb.Fatalf("connect to %v: %v", to, err)
	}
	if want := greeting(who, addrPort(c.LocalAddr()), to); got != want {
		tb.Fatalf("connect to %v: got %q, want %q", to, got, want)
	}
	return c
}

// talk connects, hears who is there, says something and hears it again.
func talk(h *testnet.Host, to netip.AddrPort, who string) error {
	c, err := dial(h, to)
	if err != nil {
		return err
	}
	defer c.Close()
	line, err := readLine(c)
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if !strings.HasPrefix(line, who+" ") {
		return fmt.Errorf("%q is not %s", line, who)
	}
	fmt.Fprintln(c, "hello")
	if line, err = readLine(c); line != "hello" {
		return fmt.Errorf("echo: %q, %w", line, err)
	}
	return nil
}

// mustEcho sees to it that a connection is alive.
func mustEcho(tb testing.TB, c net.Conn) {
	tb.Helper()
	if _, err := fmt.Fprintln(c, "still there?"); err != nil {
		tb.Fatal(err)
	}
	if got, err := readLine(c); got != "still there?" {
		tb.Fatalf("echo: %q, %v", got, err)
	}
}

// readLine reads no more than the line.
func readLine(c io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, b); err != nil {
			return string(line), err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}

// eventually waits until ok reports true.
func eventually(tb testing.TB, what string, ok func() bool) time.Duration {
	tb.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > 3*patience {
			tb.Fatalf("still not: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(start)
}

// ways are the ways to a port of the target: from the client and from the target itself.
func ways(n *testnet.Net, port uint16) map[string]way {
	all := make(map[string]way)
	add := func(name string, from *testnet.Host, to netip.Addr) {
		all[name] = way{from, netip.AddrPortFrom(to, port)}
	}
	add("client to IPv4", n.Client, n.Target.Addr4)
	add("client to IPv6", n.Client, n.Target.Addr6)
	add("client to link-local", n.Client, n.Target.Link.WithZone(n.Client.Link.Zone()))
	add("target to 127.0.0.1", n.Target, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	add("target to ::1", n.Target, netip.IPv6Loopback())
	add("target to own IPv4", n.Target, n.Target.Addr4)
	add("target to own IPv6", n.Target, n.Target.Addr6)
	add("target to own link-local", n.Target, n.Target.Link)
	return all
}

type way struct {
	from *testnet.Host
	to   netip.AddrPort
}

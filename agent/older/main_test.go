package older

import (
	"bufio"
	"context"
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
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/magpie-k8s/magpie/agent/steal"
	"github.com/magpie-k8s/magpie/internal/netns"
	"github.com/magpie-k8s/magpie/internal/testnet"
)

const (
	// roleEnv makes the test binary play another program; its arguments are the role's.
	roleEnv  = "MAGPIE_TEST_ROLE"
	port     = 8080
	patience = 10 * time.Second
)

func TestMain(m *testing.M) {
	roles := map[string]func(args []string) error{"hold": hold, "echo": echo, "http": serveHTTP, "grpc": serveGRPC, "dial": dial, "dialmany": dialMany, "flush": flushOnce}
	if role, ok := roles[os.Getenv(roleEnv)]; ok {
		if err := role(os.Args[1:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// untilStdin keeps a role until the test ends.
func untilStdin() { io.Copy(io.Discard, os.Stdin) }

// hold accepts connections and leaves them alone: hold NETWORK ADDR
func hold(args []string) error {
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go func() {
		untilStdin()
		l.Close()
	}()
	var all []net.Conn
	for {
		c, err := l.Accept()
		if err != nil {
			runtime.KeepAlive(all) // what nobody can reach is closed
			return nil
		}
		all = append(all, c)
	}
}

// echo answers with what it hears, and says what ends a connection: echo NETWORK ADDR [defer]
func echo(args []string) error {
	cfg := net.ListenConfig{}
	cfg.SetMultipathTCP(false)
	l, err := cfg.Listen(context.Background(), args[0], args[1])
	if err != nil {
		return err
	}
	if len(args) > 2 {
		if err := deferAccept(l.(*net.TCPListener)); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echoOne(c)
		}
	}()
	untilStdin()
	return nil
}

func echoOne(c net.Conn) {
	defer c.Close()
	for b := make([]byte, 4096); ; {
		n, err := c.Read(b)
		if err != nil {
			fmt.Println("ended:", err)
			return
		}
		switch words := string(b[:n]); {
		case strings.HasPrefix(words, "ignore me"):
			continue
		case strings.HasPrefix(words, "slowly"):
			time.Sleep(30 * time.Millisecond) // more than a tick of any kernel
		}
		c.Write(b[:n])
	}
}

// serveHTTP answers each request with its name: http ADDR
func serveHTTP(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go http.Serve(l, named("original"))
	untilStdin()
	return nil
}

func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, name) })
}

// serveGRPC answers health checks: that of "original" succeeds: grpc ADDR
func serveGRPC(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go healthy("original").Serve(l)
	untilStdin()
	return nil
}

// healthy is a gRPC server that knows one service, by its own name.
func healthy(name string) *grpc.Server {
	s, h := grpc.NewServer(), health.NewServer()
	h.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(s, h)
	return s
}

// dial connects, says from where, sends what it is told, and says what it hears and what ends the connection: dial ADDR
func dial(args []string) error {
	c, err := net.DialTimeout("tcp", args[0], patience)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	fmt.Println(c.LocalAddr())
	go func() {
		for b := make([]byte, 4096); ; {
			n, err := c.Read(b)
			if err != nil {
				fmt.Println("ended:", err)
				return
			}
			fmt.Print(string(b[:n]))
		}
	}()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "hang up" {
			c.(*net.TCPConn).CloseWrite()
			continue
		}
		fmt.Fprintln(c, in.Text())
	}
	return nil
}

// dialMany connects many times and stays: dialmany ADDR COUNT
func dialMany(args []string) error {
	var count int
	if _, err := fmt.Sscan(args[1], &count); err != nil {
		return err
	}
	var all []net.Conn
	for range count {
		c, err := net.DialTimeout("tcp", args[0], patience)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	fmt.Println("ready")
	untilStdin()
	runtime.KeepAlive(all)
	return nil
}

// flushOnce is one who may or may not close connections: flush NETNS
func flushOnce(args []string) error {
	ns, err := netns.Named("", args[0])
	if err != nil {
		return err
	}
	defer ns.Close()
	found, err := Find(context.Background(), ns, port)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	fmt.Println(found.Len())
	found.pace.answer = found.pace.quiet
	o, err := found.Flush(context.Background())
	fmt.Printf("%+v\n", o)
	if hinted, ok := err.(interface{ Hint() string }); ok {
		return fmt.Errorf("%w; %s", err, hinted.Hint())
	}
	return err
}

func newLines(r io.Reader) *bufio.Scanner { return bufio.NewScanner(r) }

// program is a role that runs somewhere.
type program struct {
	*exec.Cmd
	in    io.Writer
	lines *bufio.Scanner
}

// mustStart starts a role inside a namespace, and waits until it is ready; prefix goes before the command.
func mustStart(tb testing.TB, h *testnet.Host, prefix []string, role string, args ...string) *program {
	tb.Helper()
	line := append(append(prefix, os.Args[0]), args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	h.Start(tb, cmd)
	p := &program{cmd, in, bufio.NewScanner(out)}
	p.mustSay(tb, "ready")
	return p
}

func (p *program) line(tb testing.TB) string {
	tb.Helper()
	defer time.AfterFunc(patience, func() { p.Process.Kill() }).Stop()
	p.lines.Scan()
	return p.lines.Text()
}

func (p *program) mustSay(tb testing.TB, want string) {
	tb.Helper()
	if got := p.line(tb); !strings.HasPrefix(got, want) {
		tb.Fatalf("%v says %q, not %q", p.Args[1:], got, want)
	}
}

func (p *program) tell(tb testing.TB, line string) {
	tb.Helper()
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		tb.Fatal(err)
	}
}

// client is one who dialled.
type client struct {
	*program
	addr netip.AddrPort
}

func mustDial(tb testing.TB, from *testnet.Host, to netip.Addr) client {
	tb.Helper()
	p := mustStart(tb, from, nil, "dial", netip.AddrPortFrom(to, port).String())
	return client{p, netip.MustParseAddrPort(p.line(tb))}
}

// mustEcho sees to it that the connection works.
func (c client) mustEcho(tb testing.TB) {
	tb.Helper()
	c.tell(tb, "hello")
	c.mustSay(tb, "hello")
}

// mustClaim takes the port; what comes is served by fn.
func mustClaim(tb testing.TB, h *testnet.Host, fn func(l net.Listener)) *steal.Redirect {
	tb.Helper()
	r, err := steal.Open(h.NS, "", steal.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); fn(stolen{r}) }()
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
		<-done
	})
	if err := r.Claim(port); err != nil {
		tb.Fatal(err)
	}
	return r
}

// stolen is a Redirect as servers like it.
type stolen struct{ r *steal.Redirect }

func (s stolen) Accept() (net.Conn, error) { return s.r.Accept() }
func (s stolen) Close() error              { return s.r.Close() }
func (s stolen) Addr() net.Addr            { return &net.TCPAddr{Port: port} }

func mustFind(tb testing.TB, h *testnet.Host) *Connections {
	tb.Helper()
	found, err := Find(tb.Context(), h.NS, port)
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

// eventually waits until ok reports true.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for begin := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			tb.Fatalf("still not: %s", what)
		}
	}
}

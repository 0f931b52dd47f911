package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/agent"
	"github.com/magpie-k8s/magpie/client"
	"github.com/magpie-k8s/magpie/filters"
	"github.com/magpie-k8s/magpie/internal/testnet"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// startAgent serves a target with an agent in this process, and returns the socket to come by.
func startAgent(tb testing.TB, target *testnet.Host) string {
	tb.Helper()
	a, err := agent.New(agent.Config{Target: "netns/" + target.Name, Version: "test", Stay: true})
	if err != nil {
		tb.Fatal(err)
	}
	socket := filepath.Join(tb.TempDir(), "agent.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, l) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			tb.Errorf("Serve: %v", err)
		}
		if err := a.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return socket
}

func openSession(tb testing.TB, socket, command string) *client.Session {
	tb.Helper()
	s, err := client.Open(tb.Context(), client.Config{Socket: socket, Version: "test", Command: []string{command}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func mustHeader(tb testing.TB, expr string) *filters.Filter {
	tb.Helper()
	f, err := filters.Header(expr)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// serveClaim answers what a claim takes with the name.
func serveClaim(tb testing.TB, s *client.Session, port uint16, filter *filters.Filter, name string) *client.Claim {
	tb.Helper()
	c, err := s.Claim(tb.Context(), port, client.Wish{Filter: filter})
	if err != nil {
		tb.Fatal(err)
	}
	server := &http.Server{Handler: who(name)}
	go func() { _ = server.Serve(listener{c}) }()
	tb.Cleanup(func() { server.Close() })
	return c
}

func who(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s saw %s", name, r.RemoteAddr) })
}

// listener is a claim as net/http wants it.
type listener struct{ *client.Claim }

func (l listener) Accept() (net.Conn, error) {
	in, err := l.Claim.Accept()
	if err != nil {
		return nil, err
	}
	return in, in.Accepted()
}
func (l listener) Addr() net.Addr { return &net.TCPAddr{Port: int(l.Port)} }

func startOriginal(tb testing.TB, target *testnet.Host, port string) {
	tb.Helper()
	target.Do(tb, func() error {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: who("original")}
		go func() { _ = server.Serve(l) }()
		tb.Cleanup(func() { server.Close() })
		return nil
	})
}

// ask sends a request from the client's namespace over a connection of its own.
func ask(from *testnet.Host, addr, header string) (string, error) {
	return from.Get("http://"+addr+"/", header)
}

func expect(tb testing.TB, from *testnet.Host, addr, header, by string) {
	tb.Helper()
	got, err := ask(from, addr, header)
	if err != nil || !strings.HasPrefix(got, by+" saw ") {
		tb.Errorf("%q was answered with %q, %v, not by %s", header, got, err, by)
	}
}

func TestEachSessionGetsItsOwnRequests(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n.Target, "8080")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	socket := startAgent(t, n.Target)
	mine, yours := openSession(t, socket, "mine"), openSession(t, socket, "yours")
	serveClaim(t, mine, 8080, mustHeader(t, "x-user: me"), "mine")
	serveClaim(t, yours, 8080, mustHeader(t, "x-user: you"), "yours")
	expect(t, n.Client, addr, "x-user: me", "mine")
	expect(t, n.Client, addr, "x-user: you", "yours")
	expect(t, n.Client, addr, "x-user: somebody", "original")
	if err := mine.Close(); err != nil {
		t.Fatal(err)
	}
	// From the moment that the agent sees the carrier go.
	deadline := time.Now().Add(patience)
	for got := ""; !strings.HasPrefix(got, "original"); got, _ = ask(n.Client, addr, "x-user: me") {
		if time.Now().After(deadline) {
			t.Fatalf("the request of a session that is over was answered with %q", got)
		}
	}
	expect(t, n.Client, addr, "x-user: you", "yours")
}

func TestAReleasedClaimTakesNothingFromThenOn(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n.Target, "8080")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	s := openSession(t, startAgent(t, n.Target), "mine")
	for range 20 {
		c := serveClaim(t, s, 8080, mustHeader(t, "x-user: me"), "mine")
		expect(t, n.Client, addr, "x-user: me", "mine")
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		expect(t, n.Client, addr, "x-user: me", "original")
	}
}

func TestAConflictSaysWhoHoldsWhatSinceWhen(t *testing.T) {
	n := testnet.New(t)
	socket := startAgent(t, n.Target)
	first, second := openSession(t, socket, "./ems --fast"), openSession(t, socket, "./other")
	if _, err := first.Claim(t.Context(), 8080, client.Wish{Filter: mustHeader(t, "x-user: me")}); err != nil {
		t.Fatal(err)
	}
	_, err := second.Claim(t.Context(), 8080, client.Wish{Filter: mustHeader(t, "X-User: m.")})
	var taken *client.Conflict
	if !errors.As(err, &taken) {
		t.Fatalf("got %v, want a conflict", err)
	}
	if taken.Port != 8080 || !strings.Contains(taken.Holder, "./ems --fast") || !strings.Contains(taken.Filter, "x-user: me") || time.Since(taken.Since) > time.Minute {
		t.Errorf("%+v", taken)
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("errno of %v is not EADDRINUSE", err)
	}
	// Other requests of the port, and the port for who wants whole connections, are free.
	for _, filter := range []*filters.Filter{mustHeader(t, "x-user: you"), nil} {
		if _, err := second.Claim(t.Context(), 8080, client.Wish{Filter: filter}); err != nil {
			t.Errorf("%v: %v", filter, err)
		}
	}
}

func TestWhatTheLocalProcessRefusesTheOriginalAnswers(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n.Target, "8080")
	s := openSession(t, startAgent(t, n.Target), "mine")
	c, err := s.Claim(t.Context(), 8080, client.Wish{Filter: mustHeader(t, "x-user: me")})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			in, err := c.Accept()
			if err != nil {
				return
			}
			_ = in.Stream.Refuse(syscall.ECONNREFUSED)
		}
	}()
	expect(t, n.Client, net.JoinHostPort(n.Target.Addr4.String(), "8080"), "x-user: me", "original")
}

func TestConnectionsAreMadeFromInsideTheTarget(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n.Client, "80") // the client's host is what the target reaches
	s := openSession(t, startAgent(t, n.Target), "mine")
	c, err := s.Dial(t.Context(), "tcp", addrPort(n.Client, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr(); got != n.Target.Addr4 {
		t.Errorf("connected from %v, not from the target's %v", got, n.Target.Addr4)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || !strings.Contains(string(got), "original saw "+n.Target.Addr4.String()) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := s.Dial(t.Context(), "tcp", addrPort(n.Client, 81)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("where nobody listens: %v, want ECONNREFUSED", err)
	}
}

func TestNamesAndEnvironmentAreTheTargets(t *testing.T) {
	n := testnet.New(t)
	dir := filepath.Join("/etc/netns", n.Target.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const resolv = "nameserver 198.18.7.53\nsearch shop.svc\n"
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte(resolv), 0o644); err != nil {
		t.Fatal(err)
	}
	s := openSession(t, startAgent(t, n.Target), "mine")
	names, err := s.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if string(names.ResolvConf) != resolv || len(names.Hosts) == 0 || len(names.Nsswitch) == 0 {
		t.Errorf("%+v", names)
	}
	if env, err := s.Environment(t.Context()); err != nil || len(env) != 0 {
		t.Errorf("environment of an empty namespace: %q, %v", env, err)
	}
}

func TestBadClaimsAreRefusedWithACause(t *testing.T) {
	n := testnet.New(t)
	s := openSession(t, startAgent(t, n.Target), "mine")
	if _, err := s.Claim(t.Context(), 0, client.Wish{}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("port 0: %v", err)
	}
	if _, err := s.Claim(t.Context(), 8080, client.Wish{}); err != nil {
		t.Errorf("the session is of no use after a bad claim: %v", err)
	}
}

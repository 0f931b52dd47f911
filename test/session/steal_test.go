package session

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// startSession steals requests with 'x-user: me' for a small local server, and waits until it is ready.
func startSession(tb testing.TB, n *testnet.Net, more ...string) *testrun.Program {
	tb.Helper()
	args := append([]string{"--target", "netns/" + n.Target.Name, "--steal", "--http-header-filter", "x-user: me"}, more...)
	m := startLocal(tb, args, "http", ":8080")
	m.WaitFor(tb, "ready")
	return m
}

// startLocal runs magpie exec with a small server as its command.
func startLocal(tb testing.TB, args []string, what, addr string) *testrun.Program {
	tb.Helper()
	local := small(tb, what, "local", addr)
	cmd := exec.Command(filepath.Join(programs, "magpie"), slices.Concat([]string{"exec"}, args, []string{"--"}, local.Args)...)
	cmd.Env = local.Env
	return start(tb, cmd)
}

func TestRequestsWithTheHeaderReachTheLocalProcess(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	startSession(t, n)
	inside := "inside the target"
	for _, way := range []struct {
		name string
		from *testnet.Host
		addr string
	}{
		{"IPv4", n.Client, net.JoinHostPort(n.Target.Addr4.String(), "8080")},
		{"IPv6", n.Client, net.JoinHostPort(n.Target.Addr6.String(), "8080")},
		{"IPv4 loopback " + inside, n.Target, "127.0.0.1:8080"},
		{"IPv6 loopback " + inside, n.Target, "[::1]:8080"},
		{"own IPv4 " + inside, n.Target, net.JoinHostPort(n.Target.Addr4.String(), "8080")},
		{"own IPv6 " + inside, n.Target, net.JoinHostPort(n.Target.Addr6.String(), "8080")},
	} {
		t.Run(way.name, func(t *testing.T) {
			for header, by := range map[string]string{"X-User: me": "local", "x-user:ME": "local", "X-User: you": "original", "X-User: melanie": "original", "X-Other: me": "original"} {
				a := mustGet(t, way.from, way.addr, "/", header)
				if a.by != by {
					t.Errorf("%q was answered by %q, not by the %s", header, a.by, by)
				}
				if a.client != a.as {
					t.Errorf("%q: the %s saw the client as %s, it is %s", header, by, a.client, a.as)
				}
			}
		})
	}
}

func TestOneConnectionMayCarryRequestsForBoth(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	startSession(t, n)
	c, err := dial(n.Client, net.JoinHostPort(n.Target.Addr4.String(), "8080"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for i := range 20 {
		header, by := "X-User: you", "original"
		if i%3 == 1 {
			header, by = "X-User: me", "local"
		}
		a, err := ask(c, in, fmt.Sprintf("/%d", i), header)
		if err != nil {
			t.Fatal(err)
		}
		if a.by != by || !strings.Contains(a.body, fmt.Sprintf("/%d ", i)) {
			t.Errorf("request %d, %s: answered by %s: %s", i, header, a.by, a.body)
		}
	}
}

func TestWithoutAFilterWholeConnectionsAreTaken(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "echo", ":9000")
	m := startLocal(t, []string{"--target", "netns/" + n.Target.Name, "--steal"}, "echo", ":9000")
	m.WaitFor(t, "ready")
	c, err := dial(n.Client, net.JoinHostPort(n.Target.Addr4.String(), "9000"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testrun.Patience))
	in := bufio.NewReader(c)
	greeting, err := in.ReadString('\n')
	if err != nil || greeting != "local speaks first\n" {
		t.Fatalf("greeted with %q, %v", greeting, err)
	}
	const bytes = "\x00\x01 no HTTP at all \xff\n"
	if _, err := io.WriteString(c, bytes); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if back, err := io.ReadAll(in); err != nil || string(back) != bytes {
		t.Errorf("echo of %q came back as %q, %v", bytes, back, err)
	}
}

func TestServersThatSpeakFirstDoNotWait(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "echo", ":8080")
	startSession(t, n)
	begin := time.Now()
	c, err := dial(n.Client, net.JoinHostPort(n.Target.Addr4.String(), "8080"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testrun.Patience))
	greeting, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || greeting != "original speaks first\n" {
		t.Fatalf("greeted with %q, %v", greeting, err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the greeting took %v", took)
	}
}

func TestTwoSessionsShareAPort(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	mine := startSession(t, n)
	yours := startLocal(t, []string{"--target", "netns/" + n.Target.Name, "--steal", "--http-header-filter", "x-user: you"}, "http", ":8080")
	yours.WaitFor(t, "ready")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	if a := mustGet(t, n.Client, addr, "/", "x-user: you"); a.by != "local" {
		t.Errorf("'x-user: you' was answered by %q", a.by)
	}
	mine.Stop(t)
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "original" {
		t.Errorf("after my session, 'x-user: me' was answered by %q", a.by)
	}
	if a := mustGet(t, n.Client, addr, "/", "x-user: you"); a.by != "local" {
		t.Errorf("after my session, 'x-user: you' was answered by %q", a.by)
	}
}

func TestTheSecondWhoWantsTheSameIsToldWhoHoldsIt(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	startSession(t, n)
	second := startLocal(t, []string{"--target", "netns/" + n.Target.Name, "--steal", "--http-header-filter", "X-User: m.*"}, "http", ":8080")
	line := second.WaitFor(t, "refused")
	for _, part := range []string{"port 8080", "takes requests with", "x-user: me", "since"} {
		if !strings.Contains(line, part) {
			t.Errorf("no %q in %q", part, line)
		}
	}
	second.WaitFor(t, "hint: ")
	second.WaitFor(t, "address already in use") // what the command's listen(2) got
	if a := mustGet(t, n.Client, net.JoinHostPort(n.Target.Addr4.String(), "8080"), "/", "x-user: me"); a.by != "local" {
		t.Errorf("the first session lost its requests to %q", a.by)
	}
}

func TestAProcessIsATargetToo(t *testing.T) {
	n := testnet.New(t)
	original := startOriginal(t, n, "http", ":8080")
	m := startLocal(t, []string{"--target", fmt.Sprintf("pid/%d", original.Process.Pid), "--steal", "--http-path-filter", "^/beta/"}, "http", ":8080")
	m.WaitFor(t, "ready")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	if a := mustGet(t, n.Client, addr, "/beta/x"); a.by != "local" {
		t.Errorf("/beta/x was answered by %q", a.by)
	}
	if a := mustGet(t, n.Client, addr, "/alpha/x"); a.by != "original" {
		t.Errorf("/alpha/x was answered by %q", a.by)
	}
}

func TestClaimsVanishWhenTheLocalProcessDies(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	m := startSession(t, n)
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "local" {
		t.Fatalf("answered by %q", a.by)
	}
	m.Stop(t)
	if got := m.Status(t); got != 128+int(syscall.SIGINT) {
		t.Errorf("exit status %d, want that of the command: %d", got, 128+int(syscall.SIGINT))
	}
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "original" {
		t.Errorf("answered by %q", a.by)
	}
}

func TestVerboseShowsEachRoutedRequest(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	m := startSession(t, n, "-v")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	mustGet(t, n.Client, addr, "/mine", "x-user: me")
	mustGet(t, n.Client, addr, "/other")
	for path, who := range map[string]string{"/mine": "local", "/other": "original"} {
		line := m.WaitFor(t, "GET "+path)
		if !strings.Contains(line, who) || !strings.Contains(line, "200") || !strings.Contains(line, n.Client.Addr4.String()) {
			t.Errorf("%s: %q", path, line)
		}
	}
}

package session

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// python returns a local process that is a script, with all that it needs to say "shop" to a client.
func python(script string, args ...string) []string {
	const prelude = `
import os, signal, socket, sys, time
def server(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", port))
    s.listen()
    return s
def answer(c):
    head = b""
    while b"\r\n\r\n" not in head:
        more = c.recv(65536)
        if not more: return c.close()
        head += more
    body = b"%d" % os.getpid()
    c.sendall(b"HTTP/1.1 200 OK\r\nX-Answered-By: local\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
    c.close()
def say(what):
    print(what, flush=True)
`
	return append([]string{"/usr/bin/python3", "-c", prelude + script}, args...)
}

// startScript runs a script under magpie exec --steal, with more flags of magpie's in front.
func startScript(tb testing.TB, n *testnet.Net, flags []string, command []string) *testrun.Program {
	tb.Helper()
	args := append([]string{"--target", "netns/" + n.Target.Name, "--steal"}, flags...)
	return startExec(tb, append(append(args, "--"), command...)...)
}

var mine = []string{"--http-header-filter", "x-user: me"}

func TestAScriptThatStartsCurlAndThenAServer(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	startNeighbour(t, n)
	dev := withAgent(t)
	m := dev.exec(t, n, append(mine, "--env", serving+"=1", "--", "sh", "-c", `
		curl -sS http://db/; curl -sS http://$0:8080/before
		$1 http local :8080 & server=$!
		trap 'kill $server' TERM INT; wait
		curl -sS http://db/ && curl -sS http://$0:8080/after`, n.Target.Addr4.String(), filepath.Join(programs, "small"))...)
	m.WaitFor(t, "db to "+n.Target.Addr4.String())
	m.WaitFor(t, "original GET /before")
	m.WaitFor(t, "ready")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "local" {
		t.Errorf("answered by %q", a.by)
	}
	if err := m.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.WaitFor(t, "original GET /after")
	if got := m.Status(t); got != 0 {
		t.Errorf("exit status %d", got)
	}
}

func TestAClosedListenerIsGivenBackAndItsConnectionsGoOn(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "echo", ":9000")
	m := startScript(t, n, nil, python(`
l = server(9000)
c, _ = l.accept()
c.sendall(b"local speaks first\n")
l.close()
say("closed")
while b := c.recv(100):
    c.sendall(b)
say("done")
l = server(9000)
while True: l.accept() # were it to end, the original would greet
`))
	m.WaitFor(t, "ready")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "9000")
	live, in, by := greet(t, n.Client, addr)
	if by != "local" {
		t.Fatalf("greeted by %q", by)
	}
	m.WaitFor(t, "closed")
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, _, by := greet(t, n.Client, addr); by == "original" {
			break
		}
		if took := time.Since(begin); took > 300*time.Millisecond {
			t.Fatalf("the port is not the original's after %v", took)
		}
	}
	mustEcho(t, live, in, "still here\n")
	live.Close()
	m.WaitFor(t, "done")
	testrun.Eventually(t, func() error { // it listens again
		if _, _, by := greet(t, n.Client, addr); by == "original" {
			return fmt.Errorf("greeted by the original")
		}
		return nil
	})
}

// greet connects and hears who speaks first; nobody, when who accepts does not.
func greet(tb testing.TB, from *testnet.Host, addr string) (c net.Conn, in *bufio.Reader, by string) {
	tb.Helper()
	c, err := dial(from, addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	in = bufio.NewReader(c)
	line, _ := in.ReadString('\n')
	by, _, _ = strings.Cut(line, " ")
	_ = c.SetDeadline(time.Now().Add(testrun.Patience))
	return c, in, by
}

func mustEcho(tb testing.TB, c net.Conn, in *bufio.Reader, line string) {
	tb.Helper()
	if _, err := io.WriteString(c, line); err != nil {
		tb.Fatal(err)
	}
	if back, err := in.ReadString('\n'); err != nil || back != line {
		tb.Fatalf("echo of %q came back as %q, %v", line, back, err)
	}
}

func TestForkedWorkersAnswer(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	m := startScript(t, n, mine, python(`
l = server(8080)
for _ in range(3):
    if os.fork() == 0:
        while True:
            answer(l.accept()[0])
l.close() # the workers hold it now
signal.pause()
`))
	m.WaitFor(t, "ready")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	workers := map[string]bool{}
	testrun.Eventually(t, func() error {
		a := mustGet(t, n.Client, addr, "/", "x-user: me")
		if a.by != "local" {
			t.Fatalf("answered by %q", a.by)
		}
		workers[a.body] = true
		if len(workers) < 2 {
			return fmt.Errorf("one worker answers everything")
		}
		return nil
	})
	// A worker that dies takes nothing with it.
	for pid := range workers {
		kill(t, pid)
		break
	}
	for range 5 {
		if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "local" {
			t.Errorf("answered by %q", a.by)
		}
	}
}

func kill(tb testing.TB, pid string) {
	tb.Helper()
	number, err := strconv.Atoi(pid)
	if err != nil {
		tb.Fatal(err)
	}
	dead := ended(tb, number)
	if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
		tb.Fatal(err)
	}
	dead()
}

func TestADaemonIsServedUntilASignal(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	m := startScript(t, n, mine, python(`
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        l = server(8080)
        while True:
            answer(l.accept()[0])
    os._exit(0)
os.wait()
say("command %d" % os.getpid())
sys.exit(5)
`))
	m.WaitFor(t, "ready")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	a := mustGet(t, n.Client, addr, "/", "x-user: me")
	if a.by != "local" {
		t.Fatalf("answered by %q", a.by)
	}
	daemon, err := strconv.Atoi(a.body)
	if err != nil {
		t.Fatal(err)
	}
	dead := ended(t, daemon)
	_, command, _ := strings.Cut(m.WaitFor(t, "command "), " ")
	testrun.Eventually(t, func() error {
		if _, err := os.Stat("/proc/" + command); err == nil {
			return fmt.Errorf("the command, process %s, has not ended", command)
		}
		return nil
	})
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "local" {
		t.Errorf("after the command, answered by %q", a.by)
	}
	m.Stop(t)
	dead()
	if got := m.Status(t); got != 5 {
		t.Errorf("exit status %d, want that of the command", got)
	}
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "original" {
		t.Errorf("answered by %q", a.by)
	}
}

func TestAKilledMagpieLeavesNothing(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	before := census(t, n.Target)
	dev := withAgent(t)
	m := dev.exec(t, n, append(append(mine, "--"), python(`
l = server(8080)
pids = [os.getpid()]
r, w = os.pipe()
for detach in (False, True):
    if (pid := os.fork()) == 0:
        if detach:
            os.setsid()
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            if os.fork(): os._exit(0)
        os.write(w, b"%d " % os.getpid())
        while True: answer(l.accept()[0])
while len(pids) < 3:
    pids += map(int, os.read(r, 100).split())
say("pids %d %d %d" % tuple(pids))
signal.pause()
`)...)...)
	m.WaitFor(t, "ready")
	agentDead := ended(t, agentOf(t, m))
	var dead []func()
	for _, pid := range strings.Fields(m.WaitFor(t, "pids"))[1:] {
		number, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		dead = append(dead, ended(t, number))
	}
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "local" {
		t.Fatalf("answered by %q", a.by)
	}
	if err := m.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, gone := range dead {
		gone()
	}
	testrun.Eventually(t, func() error {
		if a, err := get(n.Client, addr, "/", "x-user: me"); err != nil || a.by != "original" {
			return fmt.Errorf("answered by %q, %v", a.by, err)
		}
		return nil
	})
	agentDead()
	mustBeUntouched(t, n, before)
}

// TestALocalProcessThatDiesInARequest gives the request to the original: nothing of an answer was sent.
func TestALocalProcessThatDiesInARequest(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	m := startScript(t, n, mine, python(`
c, _ = server(8080).accept()
c.recv(65536)
os.kill(os.getpid(), signal.SIGSEGV)
`))
	m.WaitFor(t, "ready")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "original" || a.status != 200 {
		t.Errorf("answered by %q with %d", a.by, a.status)
	}
	if got := m.Status(t); got != 128+int(syscall.SIGSEGV) {
		t.Errorf("exit status %d, want %d", got, 128+int(syscall.SIGSEGV))
	}
}

func TestPortsThatNobodyListensOnStayTheOriginals(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	startOriginal(t, n, "http", ":8081")
	m := startScript(t, n, nil, python(`answer(server(8080).accept()[0])`))
	m.WaitFor(t, "port 8080")
	for port, by := range map[string]string{"8081": "original", "8080": "local"} {
		if a := mustGet(t, n.Client, net.JoinHostPort(n.Target.Addr4.String(), port), "/"); a.by != by {
			t.Errorf("port %s was answered by %q", port, a.by)
		}
	}
	if got := m.Status(t); got != 0 {
		t.Errorf("exit status %d", got)
	}
}

// TestAServerThatStartsAnewGetsItsPortAgain has a client that calls all the while: whom it cannot be given to any more
// tells that the listener is gone, in the middle of whatever the program does next.
func TestAServerThatStartsAnewGetsItsPortAgain(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	m := startScript(t, n, mine, python(`
import random
for i in range(100):
    l = server(8080)
    l.close()
    time.sleep(random.random() / 100)
l = server(8080)
say("here to stay")
while True: answer(l.accept()[0])
`))
	m.WaitFor(t, "ready")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := get(n.Client, addr, "/", "x-user: me"); err != nil {
				t.Errorf("meanwhile: %v", err)
				return
			}
		}
	}()
	m.WaitFor(t, "here to stay")
	close(stop)
	<-stopped
	if strings.Contains(m.Output(), "refused") {
		t.Error("it was in its own way")
	}
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "local" {
		t.Errorf("answered by %q", a.by)
	}
}

// TestARequestThatMayHaveBeenActedOnIsSentToNobodyElse has a local process that reads an order and dies.
func TestARequestThatMayHaveBeenActedOnIsSentToNobodyElse(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	r := startRecorder(t, n, ":8080")
	m := startScript(t, n, mine, python(`
c, _ = server(8080).accept()
got = b""
while not got.endswith(b"order"):
    got += c.recv(65536)
os.kill(os.getpid(), signal.SIGKILL)
`))
	m.WaitFor(t, "ready")
	c, err := dial(n.Client, net.JoinHostPort(n.Target.Addr4.String(), "8080"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testrun.Patience))
	say(t, c, "POST / HTTP/1.1\r\nHost: shop\r\nX-User: me\r\nContent-Length: 5\r\n\r\norder", 1000)
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "HTTP/1.1 502 ") {
		t.Errorf("answered %q", line)
	}
	if got := m.Status(t); got != 128+int(syscall.SIGKILL) {
		t.Errorf("exit status %d, want %d", got, 128+int(syscall.SIGKILL))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next.mu.Lock()
	defer r.next.mu.Unlock()
	if heard := r.next.heard.String(); heard != "" {
		t.Errorf("the original heard %q", heard)
	}
}

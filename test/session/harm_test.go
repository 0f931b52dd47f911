package session

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// load is what other people's clients do meanwhile: some over keep-alive connections, some over new ones.
type load struct {
	requests, wrong atomic.Int64
	stop            chan struct{}
	done            sync.WaitGroup

	mu     sync.Mutex
	errors []string
}

// startLoad puts requests without our header on addr until finish.
func startLoad(from *testnet.Host, addr string) *load {
	l := &load{stop: make(chan struct{})}
	for i := range 8 {
		l.done.Add(1)
		if i%2 == 0 {
			go l.keepAlive(from, addr)
		} else {
			go l.short(from, addr)
		}
	}
	return l
}

func (l *load) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

func (l *load) short(from *testnet.Host, addr string) {
	defer l.done.Done()
	for !l.stopped() {
		l.count(get(from, addr, "/other"))
	}
}

func (l *load) keepAlive(from *testnet.Host, addr string) {
	defer l.done.Done()
	for !l.stopped() {
		l.oneConnection(from, addr)
	}
}

func (l *load) oneConnection(from *testnet.Host, addr string) {
	c, err := dial(from, addr)
	if err != nil {
		l.count(answer{}, err)
		return
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for !l.stopped() {
		a, err := ask(c, in, "/other")
		l.count(a, err)
		if err != nil || a.last {
			return
		}
	}
}

func (l *load) count(a answer, err error) {
	l.requests.Add(1)
	if err == nil && a.by != "original" {
		l.wrong.Add(1)
	}
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.errors = append(l.errors, err.Error())
	}
}

// finish ends the load and returns the errors that its clients saw.
func (l *load) finish() []string {
	close(l.stop)
	l.done.Wait()
	return l.errors
}

func TestSessionsComeAndGoUnderLoadWithoutAnError(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	others := startLoad(n.Client, addr)
	for range 3 {
		m := startSession(t, n, "--linger", "200ms")
		if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "local" {
			t.Errorf("answered by %q", a.by)
		}
		m.Stop(t)
	}
	errs := others.finish()
	t.Logf("%d requests", others.requests.Load())
	for _, e := range errs {
		t.Errorf("a client that is not ours saw: %s", e)
	}
	if others.wrong.Load() > 0 {
		t.Errorf("%d answers were not the original's", others.wrong.Load())
	}
}

// agentOf finds the agent's process by what magpie says of it.
func agentOf(tb testing.TB, m *testrun.Program) int {
	tb.Helper()
	line := m.WaitFor(tb, "stands beside")
	_, rest, _ := strings.Cut(line, "process ")
	pid, err := strconv.Atoi(strings.FieldsFunc(rest, func(r rune) bool { return r < '0' || r > '9' })[0])
	if err != nil {
		tb.Fatal(err)
	}
	return pid
}

// ended returns a wait for the end of a process that is not our child.
func ended(tb testing.TB, pid int) (wait func()) {
	tb.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		tb.Fatalf("process %d: %v", pid, err)
	}
	tb.Cleanup(func() { unix.Close(fd) })
	return func() {
		tb.Helper()
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(testrun.Patience.Milliseconds()))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n != 1 {
				tb.Errorf("process %d did not end: %v", pid, err)
			}
			return
		}
	}
}

func TestAKilledAgentLeavesNothing(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	before := census(t, n.Target)
	others := startLoad(n.Client, addr)
	m := startSession(t, n)
	agent := agentOf(t, m)
	dead := ended(t, agent)
	if err := syscall.Kill(agent, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	dead() // what came while the kernel tidied up may have been reset with the rest
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "original" {
		t.Errorf("answered by %q", a.by)
	}
	if got := m.Status(t); got != 125 {
		t.Errorf("exit status %d, want 125", got)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("the session ended %v after its agent", took)
	}
	m.WaitFor(t, "lost")
	for _, e := range others.finish() {
		t.Logf("in flight: %s", e) // one reset for each connection that passed through
	}
	testrun.Eventually(t, func() error {
		if after := census(t, n.Target); after != before {
			return fmt.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		return nil
	})
}

func TestAHungAgentIsPassedBy(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	m := startSession(t, n)
	agent := agentOf(t, m)
	if err := syscall.Kill(agent, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resumed := false
	defer func() {
		if !resumed {
			_ = syscall.Kill(agent, syscall.SIGCONT)
		}
	}()
	time.Sleep(600 * time.Millisecond) // the promise is half a second
	a := mustGet(t, n.Client, addr, "/", "x-user: me")
	if a.by != "original" || a.client != a.as {
		t.Errorf("answered by %q, who saw %s instead of %s", a.by, a.client, a.as)
	}
	resumed = true
	if err := syscall.Kill(agent, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	testrun.Eventually(t, func() error {
		if a, err := get(n.Client, addr, "/", "x-user: me"); err != nil || a.by != "local" {
			return fmt.Errorf("answered by %q, %v", a.by, err)
		}
		return nil
	})
}

func TestTheAgentLeavesAfterTheLastSession(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	before := census(t, n.Target)
	m := startSession(t, n)
	gone := ended(t, agentOf(t, m))
	m.Stop(t)
	gone()
	testrun.Eventually(t, func() error {
		if after := census(t, n.Target); after != before {
			return fmt.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		return nil
	})
	if left, _ := filepath.Glob(fmt.Sprintf("/run/magpie/netns-%d.sock", n.Target.NS.ID().Ino)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// census is what of ours could be left in the target: listeners, and BPF links on its namespace.
func census(tb testing.TB, target *testnet.Host) string {
	tb.Helper()
	listeners, err := exec.Command("ip", "netns", "exec", target.Name, "ss", "-Hltn").Output()
	if err != nil {
		tb.Fatal(err)
	}
	var links []string
	out, err := exec.Command("bpftool", "link", "show").Output()
	if err != nil {
		tb.Fatal(err)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if strings.Contains(line, fmt.Sprintf("netns_ino %d", target.NS.ID().Ino)) {
			links = append(links, line)
		}
	}
	return fmt.Sprintf("%s%s", listeners, strings.Join(links, "\n"))
}

func TestAForeignPeerIsToldApart(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	_, socket := serveTarget(t, n)
	for _, said := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("\xff", 1<<16), "magpie", ""} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(said))
		c.Close()
	}
	m := startLocal(t, []string{"--agent", socket, "--target", "netns/" + n.Target.Name, "--steal", "--http-header-filter", "x-user: me"}, "http", ":8080")
	m.WaitFor(t, "ready")
	if a := mustGet(t, n.Client, net.JoinHostPort(n.Target.Addr4.String(), "8080"), "/", "x-user: me"); a.by != "local" {
		t.Errorf("after the foreign peers, answered by %q", a.by)
	}
}

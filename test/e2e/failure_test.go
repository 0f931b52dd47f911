//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// mustTake waits until all replicas answer the developer's requests by his own shop.
func mustTake(tb testing.TB, s *shop, user string, replicas int, limit time.Duration) {
	tb.Helper()
	took := within(tb, limit, func() error { return s.everywhere(tb, user, replicas, "x-user: "+user) })
	tb.Logf("requests reach %s after %v", user, took.Round(100*time.Millisecond))
}

// mustPass waits until all replicas answer the developer's requests themselves.
func mustPass(tb testing.TB, s *shop, user string, replicas int, limit time.Duration) {
	tb.Helper()
	took := within(tb, limit, func() error { return s.everywhere(tb, "original", replicas, "x-user: "+user) })
	tb.Logf("requests pass after %v", took.Round(100*time.Millisecond))
}

// connections is how many of the bystander's connections may be in the agent's hands at once: one for each of its workers.
const connections = 4

func TestAKilledAgentIsReplaced(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	m := dev.steal(t, s, "me")
	mustSignal(t, agentProcess(t, s.namespace), syscall.SIGKILL)
	mustPass(t, s, "nobody", 1, 3*time.Second)
	mustTake(t, s, "me", 1, 30*time.Second)
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, connections) // one reset for each connection that the agent held
}

func TestADeletedAgentPodIsReplaced(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	m := dev.steal(t, s, "me")
	mustKubectl(t, "-n", s.namespace, "delete", "pod", "-l", "app.kubernetes.io/name=magpie-agent", "--wait=false")
	mustTake(t, s, "me", 1, 90*time.Second)
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, 90*time.Second) // the first agent lets go of passed connections in its own time
	s.mustBeUnharmed(t, 0)
}

func TestAKilledClientLeavesNothing(t *testing.T) {
	t.Parallel() // it waits most of its time
	s, dev := openShop(t, 1), newDeveloper(t)
	m := dev.steal(t, s, "me")
	mustSignal(t, m.Cmd.Process.Pid, syscall.SIGKILL)
	mustPass(t, s, "me", 1, 5*time.Second)
	mustLeaveNothing(t, s.namespace, 100*time.Second) // it might have come back
	s.mustBeUnharmed(t, 0)
}

func TestAStoppedClientHarmsNobodyAndComesBack(t *testing.T) {
	t.Parallel() // it waits most of its time
	s, dev := openShop(t, 1), newDeveloper(t)
	m := dev.steal(t, s, "me")
	mustSignal(t, m.Cmd.Process.Pid, syscall.SIGSTOP)
	mustPass(t, s, "me", 1, 20*time.Second)
	time.Sleep(40 * time.Second)
	mustSignal(t, m.Cmd.Process.Pid, syscall.SIGCONT)
	mustTake(t, s, "me", 1, 30*time.Second)
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

func TestACutCableEndsNoSession(t *testing.T) {
	t.Parallel() // it waits most of its time
	s, dev := openShop(t, 1), newDeveloper(t)
	m := dev.steal(t, s, "me")
	mend := dev.cut(t)
	mustPass(t, s, "me", 1, 20*time.Second)
	time.Sleep(15 * time.Second)
	mend()
	mustTake(t, s, "me", 1, 30*time.Second)
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

// TestASilentAPIServerEndsNoSession stops the API server itself, for everybody. It must not run beside other tests.
func TestASilentAPIServerEndsNoSession(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	m := dev.steal(t, s, "me")
	server := apiServer(t)
	mustSignal(t, server, syscall.SIGSTOP)
	awake := sync.OnceFunc(func() { mustSignal(t, server, syscall.SIGCONT) })
	t.Cleanup(awake)
	within(t, 25*time.Second, func() error { // the agent notices as the client does, and lets the requests pass
		if !strings.Contains(m.Output(), "lost") {
			return errors.New("the client has not noticed")
		}
		return nil
	})
	time.Sleep(15 * time.Second)
	awake()
	mustTake(t, s, "me", 1, 30*time.Second)
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

// apiServer is the process of the cluster's only API server.
func apiServer(tb testing.TB) int {
	tb.Helper()
	out, err := exec.Command("pgrep", "-x", "kube-apiserver").Output()
	if err != nil {
		tb.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		tb.Fatalf("not one API server: %q", out)
	}
	return pid
}

func mustSignal(tb testing.TB, pid int, sig syscall.Signal) {
	tb.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		tb.Fatal(err)
	}
}

func TestADeletedTargetPodIsFollowed(t *testing.T) {
	s, dev := openShop(t, 2), newDeveloper(t)
	m := dev.steal(t, s, "me")
	mustKubectl(t, "-n", s.namespace, "delete", "pod", s.pods(t)[0], "--wait=false")
	within(t, 30*time.Second, func() error { return s.has(t, 2) })
	mustTake(t, s, "me", 2, 5*time.Second)
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

func TestARollingRestartIsFollowed(t *testing.T) {
	s, dev := openShop(t, 2), newDeveloper(t)
	m := dev.steal(t, s, "me")
	mustKubectl(t, "-n", s.namespace, "rollout", "restart", "deploy/shop")
	rollout(t, s.namespace, "deploy/shop")
	within(t, 30*time.Second, func() error { return s.has(t, 2) })
	mustTake(t, s, "me", 2, 5*time.Second)
	if strings.Contains(m.Output(), "lost: ") {
		t.Error("the session was lost")
	}
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

func TestScalingIsFollowed(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	m := dev.steal(t, s, "me")
	mustKubectl(t, "-n", s.namespace, "scale", "deploy/shop", "--replicas=3")
	rollout(t, s.namespace, "deploy/shop")
	mustTake(t, s, "me", 3, 5*time.Second)
	mustKubectl(t, "-n", s.namespace, "scale", "deploy/shop", "--replicas=1")
	within(t, 30*time.Second, func() error { return s.has(t, 1) })
	mustTake(t, s, "me", 1, 5*time.Second)
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, 30*time.Second)
	s.mustBeUnharmed(t, 0)
}

func TestADrainedNodeIsFollowed(t *testing.T) {
	s, dev := openShop(t, 2), newDeveloper(t)
	m := dev.steal(t, s, "me")
	t.Cleanup(func() { mustKubectl(t, "uncordon", "node2") })
	mustKubectl(t, "drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=app!=bystander,k8s-app!=kube-dns", "--timeout=120s")
	within(t, 30*time.Second, func() error { return s.has(t, 2) })
	mustTake(t, s, "me", 2, 5*time.Second)
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

func TestDevelopersComeAndGo(t *testing.T) {
	s, one, two := openShop(t, 1), newDeveloper(t), newDeveloper(t)
	for range 5 {
		first := one.steal(t, s, "one")
		second := two.steal(t, s, "two")
		first.Stop(t)
		mustTake(t, s, "two", 1, 5*time.Second)
		second.Stop(t)
	}
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

// TestDevelopersTakeTurns has one developer come in the moment in which the other goes, who is the last: the agent leaves, or stays.
func TestDevelopersTakeTurns(t *testing.T) {
	s, one, two := openShop(t, 1), newDeveloper(t), newDeveloper(t)
	here, next := one.steal(t, s, "one"), "two"
	for _, dev := range []*developer{two, one, two, one, two, one, two, one} {
		comes := dev.startSteal(t, s, next)
		if next == "one" {
			time.Sleep(120 * time.Millisecond) // a program needs some to begin; so the moment is another one
		}
		here.Stop(t)
		comes.WaitFor(t, "ready")
		mustTake(t, s, next, 1, 5*time.Second)
		if strings.Contains(comes.Output(), "lost: ") {
			t.Errorf("%s lost the session:\n%s", next, comes.Output())
		}
		here, next = comes, map[string]string{"one": "two", "two": "one"}[next]
	}
	here.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

// TestManySessions opens one after the other. MAGPIE_E2E_SESSIONS says how many; a hundred is what we promise.
func TestManySessions(t *testing.T) {
	many := 100
	if n, err := strconv.Atoi(os.Getenv("MAGPIE_E2E_SESSIONS")); err == nil {
		many = n
	}
	s, dev := openShop(t, 1), newDeveloper(t)
	begin := time.Now()
	for range many {
		dev.steal(t, s, "me").Stop(t)
	}
	t.Logf("%d sessions, %v each", many, (time.Since(begin) / time.Duration(many)).Round(time.Millisecond))
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
	ours := 0
	for _, reason := range []string{"MagpieSessionStarted", "MagpieSessionEnded"} {
		ours += len(strings.Fields(mustKubectl(t, "-n", s.namespace, "get", "events", "--field-selector", "reason="+reason, "-o", "name")))
	}
	// Of an agent's Job and pod Kubernetes itself tells, as of any: created, scheduled, pulled, started, killed.
	const kubernetesOwn = 8
	if all := names(t, s.namespace, "events", ""); ours > 2*many || len(all)-ours > kubernetesOwn*many+100 {
		t.Errorf("%d Events of ours, %d in all", ours, len(all))
	}
}

// has returns an error unless so many replicas are ready.
func (s *shop) has(tb testing.TB, replicas int) error {
	if ips := s.ips(tb); len(ips) != replicas {
		return fmt.Errorf("%d replicas are ready", len(ips))
	}
	return nil
}

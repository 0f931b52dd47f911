//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// claimedWithin is what a new pod may serve of our requests itself, from when it is ready.
const claimedWithin = 2 * time.Second

// TestANewPodIsClaimedAsSoonAsItIsReady and not before: its agent is there while it starts.
func TestANewPodIsClaimedAsSoonAsItIsReady(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	mustKubectl(t, "-n", s.namespace, "patch", "deploy", "shop", "-p",
		`{"spec": {"template": {"spec": {"containers": [{"name": "shop", "readinessProbe": {"initialDelaySeconds": 6, "periodSeconds": 1}}]}}}}`)
	rollout(t, s.namespace, "deploy/shop")
	within(t, 30*time.Second, func() error { return s.has(t, 1) })
	m := dev.steal(t, s, "me")
	before := s.ips(t)
	mustKubectl(t, "-n", s.namespace, "scale", "deploy/shop", "--replicas=2")
	within(t, 20*time.Second, func() error { // the agent comes first
		if agents := names(t, s.namespace, "pods", agentLabel); len(agents) < 2 {
			return fmt.Errorf("agents: %v", agents)
		}
		return nil
	})
	if err := s.has(t, 1); err != nil {
		t.Errorf("the agent came after the pod was ready: %v", err)
	}
	within(t, 30*time.Second, func() error { return s.has(t, 2) })
	fresh := slices.DeleteFunc(s.ips(t), func(ip string) bool { return slices.Contains(before, ip) })
	took := within(t, claimedWithin, func() error {
		a, err := s.ask("http://"+fresh[0]+":8080/", "x-user: me")
		if err == nil && a.By != "me" {
			err = fmt.Errorf("answered by %q", a.By)
		}
		return err
	})
	t.Logf("claimed %v after it was ready", took.Round(time.Millisecond))
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

// foreign is what client-go writes when nobody stops it.
var foreign = regexp.MustCompile(`(?m)^[IWEF]\d{4} `)

// TestACtrlCAtAnyMomentLeavesNothing comes while the cluster is asked, while agents start, and while the command does.
func TestACtrlCAtAnyMomentLeavesNothing(t *testing.T) {
	s, dev := openShop(t, 2), newDeveloper(t)
	for wait := 40 * time.Millisecond; wait < 1500*time.Millisecond; wait = wait * 5 / 4 {
		m := dev.startSteal(t, s, "me")
		time.Sleep(wait) // a moment like any other
		pressed := time.Now()
		m.Stop(t)
		if took := time.Since(pressed); took > 5*time.Second {
			t.Errorf("%v after its start, it took %v to end", wait, took)
		}
		if out := m.Output(); foreign.MatchString(out) || strings.Contains(out, "hint: ") {
			t.Errorf("%v after its start:\n%s", wait, out)
		}
	}
	if err := s.everywhere(t, "original", 2, "x-user: me"); err != nil {
		t.Error(err)
	}
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

// TestATerminalThatIsClosedLeavesNothing sends SIGHUP and SIGTERM, as a window and an editor do that are closed.
func TestATerminalThatIsClosedLeavesNothing(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		m := dev.steal(t, s, "me")
		if err := syscall.Kill(-m.Cmd.Process.Pid, sig); err != nil {
			t.Fatal(err)
		}
		m.Status(t)
		mustLeaveNothing(t, s.namespace, soon)
	}
	s.mustBeUnharmed(t, 0)
}

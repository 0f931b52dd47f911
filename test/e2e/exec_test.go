//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// soon is how long the end of a last session on a shop may take to show in the cluster: connections of the bystander that pass through the
// agent may linger for two seconds there.
const soon = 2*time.Second + leftTime

func TestStealFromEveryReplicaAndLeaveNothing(t *testing.T) {
	s, dev := openShop(t, 2), newDeveloper(t)
	m := dev.steal(t, s, "me")
	if err := s.everywhere(t, "me", 2, "x-user: me"); err != nil {
		t.Error(err)
	}
	if err := s.everywhere(t, "original", 2, "x-user: you"); err != nil {
		t.Error(err)
	}
	m.Stop(t)
	if err := s.everywhere(t, "original", 2, "x-user: me"); err != nil {
		t.Error(err)
	}
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

// TestTheOriginalSeesItsClient compares what a pod says of its client with and without a session.
func TestTheOriginalSeesItsClient(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	bystander := mustKubectl(t, "-n", s.namespace, "get", "pod", "bystander", "-o", "jsonpath={.status.podIP}")
	dev.steal(t, s, "me")
	for header, by := range map[string]string{"x-user: me": "me", "x-user: you": "original"} {
		a, err := s.ask("http://"+s.ips(t)[0]+":8080/", header)
		if err != nil {
			t.Fatal(err)
		}
		if a.By != by || !strings.HasPrefix(a.Client, bystander+":") {
			t.Errorf("%s: answered by %q, who saw %s instead of %s", header, a.By, a.Client, bystander)
		}
	}
}

func TestACommandIsWhereThePodIs(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	for _, url := range []string{"http://shop/", "http://shop." + s.namespace + "/", "http://shop." + s.namespace + ".svc.cluster.local/"} {
		out, status := dev.run(t, "exec", "--target", "deploy/shop", "-n", s.namespace, "--", "curl", "-sS", url)
		if status != 0 || !strings.Contains(out, `"By":"original"`) {
			t.Errorf("curl %s: status %d:\n%s", url, status, out)
		}
	}
	out, status := dev.run(t, "exec", "--target", "deploy/shop", "-n", s.namespace, "--", "sh", "-c", `echo "$GREETING, $PASSWORD, $POD_IP."`)
	if want := "hello, correct horse, " + s.ips(t)[0] + "."; status != 0 || !strings.Contains(out, want) {
		t.Errorf("status %d, no %q in:\n%s", status, want, out)
	}
	mustLeaveNothing(t, s.namespace, leftTime)
}

func TestWithoutATargetThereIsTheClusterStill(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	out, status := dev.run(t, "exec", "--target", "none", "-n", s.namespace, "--", "curl", "-sS", "http://shop/")
	if status != 0 || !strings.Contains(out, `"By":"original"`) {
		t.Errorf("status %d:\n%s", status, out)
	}
	mustLeaveNothing(t, s.namespace, leftTime)
}

func TestTwoDevelopersShareOneAgent(t *testing.T) {
	s, one, two := openShop(t, 1), newDeveloper(t), newDeveloper(t)
	first := one.steal(t, s, "one")
	second := two.steal(t, s, "two")
	if agents := names(t, s.namespace, "pods", "app.kubernetes.io/name=magpie-agent"); len(agents) != 1 {
		t.Errorf("agents: %v", agents)
	}
	for _, user := range []string{"one", "two"} {
		if err := s.everywhere(t, user, 1, "x-user: "+user); err != nil {
			t.Error(err)
		}
	}
	third := two.startSteal(t, s, "one")
	third.WaitFor(t, "refused")
	third.WaitFor(t, "hint: ")
	third.Stop(t)
	first.Stop(t)
	if err := s.everywhere(t, "two", 1, "x-user: two"); err != nil {
		t.Error(err)
	}
	if err := s.everywhere(t, "original", 1, "x-user: one"); err != nil {
		t.Error(err)
	}
	second.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

func TestOneReplicaForThoseWhoWantOne(t *testing.T) {
	s, dev := openShop(t, 2), newDeveloper(t)
	dev.steal(t, s, "me", "--replicas", "one")
	mine := 0
	for _, ip := range s.ips(t) {
		a, err := s.ask("http://"+ip+":8080/", "x-user: me")
		if err != nil {
			t.Fatal(err)
		}
		if a.By == "me" {
			mine++
		}
	}
	if mine != 1 {
		t.Errorf("%d of 2 replicas are taken", mine)
	}
}

// TestEphemeral stands inside the pod instead of beside it. The container stays in the pod's list, ended: Kubernetes has no
// way to take it out.
func TestEphemeral(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	m := dev.steal(t, s, "me", "--ephemeral")
	for header, by := range map[string]string{"x-user: me": "me", "x-user: you": "original"} {
		if err := s.everywhere(t, by, 1, header); err != nil {
			t.Error(err)
		}
	}
	m.Stop(t)
	within(t, soon, func() error {
		running := mustKubectl(t, "-n", s.namespace, "get", "pods", "-l", "app=shop", "-o", "jsonpath={.items[*].status.ephemeralContainerStatuses[*].state.running}")
		if links := stealLinks(t, s.namespace); running != "" || links > 0 {
			return fmt.Errorf("still running: %s, %d links", running, links)
		}
		return nil
	})
	s.mustBeUnharmed(t, 0)
}

func TestListenersOfTheCommandAreClaimedWhereTheyListen(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	m := dev.magpie(t, "exec", "--target", "deploy/shop", "-n", s.namespace, "--steal", "--", filepath.Join(programs, "shop"), "serve", "mine", ":9090")
	m.WaitFor(t, "ready")
	a, err := s.ask("http://" + s.ips(t)[0] + ":9090/")
	if err != nil || a.By != "mine" {
		t.Errorf("a port that the original does not have: %+v, %v", a, err)
	}
	m.WaitFor(t, "deploy/shop declares no port 9090, but 8080")
}

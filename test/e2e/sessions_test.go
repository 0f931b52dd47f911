//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// listedSession is one in `magpie sessions -o json`.
type listedSession struct {
	ID, User, Command, Namespace string
	Pods                         []string
	Claims                       []struct {
		Port         int
		Mode, Filter string
	}
}

func (d *developer) sessions(tb testing.TB, flags ...string) (found []listedSession) {
	tb.Helper()
	mustDecode(tb, d.mustRun(tb, append([]string{"sessions", "-o", "json"}, flags...)...), &found)
	return found
}

func TestSessionsAreVisibleToEverybody(t *testing.T) {
	s, one, two := openShop(t, 2), newDeveloper(t), newDeveloper(t)
	one.steal(t, s, "one")
	two.steal(t, s, "two")
	found := two.sessions(t, "-n", s.namespace)
	if len(found) != 2 {
		t.Fatalf("sessions: %+v", found)
	}
	pods := s.pods(t)
	slices.Sort(pods)
	for i, user := range []string{"one", "two"} {
		got := found[i]
		if got.Namespace != s.namespace || !slices.Equal(got.Pods, pods) || !strings.Contains(got.Command, "serve "+user) || len(got.Claims) != 1 ||
			got.Claims[0].Port != 8080 || got.Claims[0].Mode != "steal" || !strings.Contains(got.Claims[0].Filter, "x-user: "+user) {
			t.Errorf("session of %s: %+v", user, got)
		}
	}
	if table := one.mustRun(t, "sessions", "-A"); !strings.Contains(table, found[0].ID) || !strings.Contains(table, "NAMESPACE") {
		t.Errorf("sessions -A:\n%s", table)
	}
	if ids := one.mustRun(t, "__complete", "sessions", "stop", "-n", s.namespace, ""); !strings.Contains(ids, found[1].ID) {
		t.Errorf("completion:\n%s", ids)
	}
}

func TestAnybodyMayStopASession(t *testing.T) {
	s, one, two := openShop(t, 2), newDeveloper(t), newDeveloper(t)
	m := one.steal(t, s, "one")
	kept := two.steal(t, s, "two")
	id := two.sessions(t, "-n", s.namespace)[0].ID
	two.mustRun(t, "sessions", "stop", "-n", s.namespace, id)
	if status := m.Status(t); status != 125 || !strings.Contains(m.Output(), "stopped") {
		t.Errorf("status %d:\n%s", status, m.Output())
	}
	if err := s.everywhere(t, "original", 2, "x-user: one"); err != nil {
		t.Error(err)
	}
	if err := s.everywhere(t, "two", 2, "x-user: two"); err != nil {
		t.Error(err)
	}
	if out, status := two.run(t, "sessions", "stop", "-n", s.namespace, id); status != 125 || !strings.Contains(out, "there is none") {
		t.Errorf("stop again: status %d\n%s", status, out)
	}
	kept.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

// TestEventsTellOfASessionOnce on each pod: that it has started, and that it has ended.
func TestEventsTellOfASessionOnce(t *testing.T) {
	s, dev := openShop(t, 2), newDeveloper(t)
	pods := s.pods(t)
	dev.steal(t, s, "me").Stop(t)
	for _, pod := range pods {
		for _, reason := range []string{"MagpieSessionStarted", "MagpieSessionEnded"} {
			within(t, soon, func() error {
				notes := strings.TrimSpace(mustKubectl(t, "-n", s.namespace, "get", "events", "--field-selector", "reason="+reason+",involvedObject.name="+pod, "-o", "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"))
				if notes == "" || strings.Contains(notes, "\n") || !strings.Contains(notes, `8080 with header("x-user: me")`) || !strings.Contains(notes, "dev@") {
					return fmt.Errorf("events %s: %q", reason, notes)
				}
				return nil
			})
		}
	}
	mustLeaveNothing(t, s.namespace, soon)
	time.Sleep(time.Second) // for an event too many
	for _, pod := range pods {
		all := mustKubectl(t, "-n", s.namespace, "get", "events", "--field-selector", "involvedObject.name="+pod, "-o", "name")
		if n := strings.Count(all, "\n"); n > 12 {
			t.Errorf("%d events on the pod:\n%s", n, all)
		}
	}
}

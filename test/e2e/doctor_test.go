//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// finding is one of `magpie doctor -o json`.
type finding struct{ Check, Verdict, Text, Hint string }

// of returns the findings of a check.
func of(all []finding, check string) (some []finding) {
	for _, f := range all {
		if f.Check == check {
			some = append(some, f)
		}
	}
	return some
}

func (d *developer) doctor(tb testing.TB, args ...string) (all []finding, status int) {
	tb.Helper()
	out, status := d.run(tb, append([]string{"doctor", "-o", "json"}, args...)...)
	mustDecode(tb, out, &all)
	return all, status
}

func TestDoctorFindsAHealthyClusterAndLeavesNothing(t *testing.T) {
	s, dev := openShop(t, 2), newDeveloper(t)
	all, status := dev.doctor(t, "-n", s.namespace, "--target", "deploy/shop")
	if status != 0 {
		t.Errorf("status %d", status)
	}
	for check, want := range map[string]string{
		"cluster": "Kubernetes v1.", "latency": "p99", "rights": "", "pod security": s.namespace, "pod network": "", "target": "deploy/shop: 2 ready",
		"mesh": "no sidecar", "agent": "started in pod", "carrier": "p99", "node": "Linux", "ports": "port 8080: taken by redirect",
	} {
		found := of(all, check)
		if len(found) == 0 || !strings.Contains(found[0].Text, want) {
			t.Errorf("%s: %+v, want %q", check, found, want)
		}
		for _, f := range found {
			if f.Verdict == "fail" {
				t.Errorf("%+v", f)
			}
		}
	}
	if len(of(all, "feature")) == 0 {
		t.Error("no feature of the node is told")
	}
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

func TestDoctorWithoutATargetCreatesNothing(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	before := mustKubectl(t, "-n", s.namespace, "get", "pods,jobs,events", "-o", "name")
	if all, status := dev.doctor(t, "-n", s.namespace); status != 0 || len(of(all, "agent")) > 0 {
		t.Errorf("status %d: %+v", status, all)
	}
	if after := mustKubectl(t, "-n", s.namespace, "get", "pods,jobs,events", "-o", "name"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestDoctorNamesWhatIsInTheWay(t *testing.T) {
	dev := newDeveloper(t)
	restricted := newNamespace(t, "pod-security.kubernetes.io/enforce=restricted")
	all, status := dev.doctor(t, "-n", restricted)
	if found := of(all, "pod security"); status != 1 || len(found) != 1 || found[0].Verdict != "fail" || !strings.Contains(found[0].Hint, "--agent-namespace") {
		t.Errorf("status %d: %+v", status, all)
	}
	all, status = dev.doctor(t, "-n", restricted, "--as", "nobody")
	if found := of(all, "rights"); status != 1 || len(found) < 2 || found[0].Verdict != "fail" || !strings.Contains(found[0].Hint, "deploy/rbac.yaml") {
		t.Errorf("status %d: %+v", status, all)
	}
	if out, status := dev.run(t, "doctor", "-n", restricted+"x"); status != 1 || !strings.Contains(out, restricted) {
		t.Errorf("status %d:\n%s", status, out)
	}
}

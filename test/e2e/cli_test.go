//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testrun"
)

func TestLsListsWhatExecTakes(t *testing.T) {
	s, dev := openShop(t, 2), newDeveloper(t)
	out := dev.mustRun(t, "ls", "-n", s.namespace, "-o", "name")
	if got := strings.Fields(out); !slices.Equal(got, []string{"deploy/shop", "svc/shop", "pod/bystander"}) {
		t.Errorf("ls: %q", got)
	}
	for _, target := range strings.Fields(dev.mustRun(t, "ls", "-n", s.namespace, "-o", "name") + "\n" + dev.mustRun(t, "ls", "-n", s.namespace, "pods", "-o", "name")) {
		if out, status := dev.run(t, "exec", "-n", s.namespace, "--target", target, "--", "true"); status != 0 {
			t.Errorf("exec --target %s: status %d\n%s", target, status, out)
		}
	}
	table := dev.mustRun(t, "ls", "-n", s.namespace, "deployments", "-o", "wide")
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != 2 || !slices.Equal(strings.Fields(lines[0]), []string{"TARGET", "READY", "AGE", "CONTAINERS", "PORTS", "NODES"}) ||
		!strings.HasPrefix(lines[1], "deploy/shop   2/2 ") || !strings.Contains(lines[1], "shop         8080    node") {
		t.Errorf("ls deployments -o wide:\n%s", table)
	}
	var rows []struct {
		Target, Namespace, Owner string
		Ready                    int
		Nodes                    []string
	}
	mustDecode(t, dev.mustRun(t, "ls", "-A", "-o", "json", "pods"), &rows)
	ours := 0
	for _, row := range rows {
		if row.Namespace == s.namespace && row.Owner == "deploy/shop" && row.Ready == 1 && len(row.Nodes) == 1 {
			ours++
		}
	}
	if ours != 2 {
		t.Errorf("ls -A pods: %+v", rows)
	}
}

func TestKubectlMagpieIsTheSame(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	plugins := t.TempDir()
	if err := os.Symlink(filepath.Join(programs, "magpie"), filepath.Join(plugins, "kubectl-magpie")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"magpie", "ls", "-n", s.namespace, "-o", "name"}, {"magpie", "exec", "--help"}} {
		cmd := exec.Command(kubectlBin, args...)
		cmd.Env = append(slices.Clone(dev.env), "PATH="+plugins+":/usr/bin:/bin")
		p := testrun.Start(t, cmd, func() error { return dev.host.NS.Do(cmd.Start) })
		if status := p.Status(t); status != 0 || !strings.Contains(p.Output(), "deploy/shop") && !strings.Contains(p.Output(), "  kubectl magpie exec --target") {
			t.Errorf("kubectl %v: status %d\n%s", args, status, p.Output())
		}
	}
}

func TestCompletionOffersLiveNames(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"exec", "-n", s.namespace, "--target", "deploy/"}, "deploy/shop"},
		{[]string{"exec", "-n", s.namespace, "--target", "deployment/s"}, "deployment/shop"},
		{[]string{"exec", "-n", s.namespace, "--target", "deploy/shop/"}, "deploy/shop/container/shop"},
		{[]string{"exec", "-n", s.namespace, "-p", "by"}, "bystander"},
		{[]string{"exec", "-n", s.namespace, "--target", "svc/shop", "-c", ""}, "shop"},
		{[]string{"ls", "-n", "e2e-"}, s.namespace},
	} {
		out, status := dev.run(t, append([]string{"__complete"}, c.args...)...)
		if status != 0 || !slices.Contains(strings.Split(out, "\n"), c.want) {
			t.Errorf("completion of %q: status %d\n%s", c.args, status, out)
		}
	}
}

// TestCompletionDoesNotKeepAShellWaiting has an API server that takes connections and never answers.
func TestCompletionDoesNotKeepAShellWaiting(t *testing.T) {
	dev := newDeveloper(t)
	mend := dev.cut(t)
	defer mend()
	began := time.Now()
	out, status := dev.run(t, "__complete", "exec", "--target", "deploy/")
	if took := time.Since(began); status != 0 || took > 3*time.Second {
		t.Errorf("status %d after %v:\n%s", status, took, out)
	}
}

func TestWithoutStealNothingIsTaken(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	m := dev.magpie(t, "exec", "--target", "deploy/shop", "-n", s.namespace, "--", filepath.Join(programs, "shop"), "serve", "me", ":8080")
	m.WaitFor(t, "port 8080 of deploy/shop stays with the original")
	if err := s.everywhere(t, "original", 1); err != nil {
		t.Error(err)
	}
	m.Stop(t)
	s.mustBeUnharmed(t, 0)
}

// mustRun runs magpie, which must go well, and returns what it said.
func (d *developer) mustRun(tb testing.TB, args ...string) string {
	tb.Helper()
	out, status := d.run(tb, args...)
	if status != 0 {
		tb.Fatalf("magpie %s: status %d\n%s", strings.Join(args, " "), status, out)
	}
	return out
}

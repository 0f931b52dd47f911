//go:build e2e

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain leaves the cluster up, for the suites that come after.
func TestMain(m *testing.M) {
	up := exec.Command("go", "run", "-buildvcs=false", ".", "up")
	up.Stdout, up.Stderr = os.Stderr, os.Stderr
	if err := up.Run(); err != nil {
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestDownLeavesNothing ends the cluster of the other tests, and one with pods on it; then there is an empty one again.
func TestDownLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("MAGPIE_NO_SKIP") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	program := t.TempDir() + "/cluster"
	mustRun(t, "go", "build", "-buildvcs=false", "-o", program, ".")
	mustRun(t, program, "down")
	before := hostState(t)
	mustRun(t, program, "up")
	t.Run("with pods", func(t *testing.T) { mustHaveWeb(t) })
	if hostState(t)["processes"] == "" {
		t.Error("the cluster runs, and no process is in its cgroups")
	}
	mustRun(t, program, "down")
	for what, now := range hostState(t) {
		if now != before[what] {
			t.Errorf("%s before:\n%s\nand after:\n%s", what, before[what], now)
		}
	}
	mustRun(t, program, "down") // has nothing to do
	mustRun(t, program, "up")
}

// hostState is all that the cluster could leave on the host.
func hostState(tb testing.TB) map[string]string {
	tb.Helper()
	state := map[string]string{}
	for what, script := range map[string]string{
		"links":      "ip -brief link | cut -d' ' -f1 | sort",
		"routes":     "ip route show table all | sort",
		"rules":      "nft list ruleset",
		"namespaces": "ls /run/netns 2>/dev/null | grep -x magpie-fabric || true",
		"mounts":     "grep -i -e magpie-cluster -e magpie-fabric -e kubelet -e containerd /proc/self/mounts || true",
		"cgroups":    "find /sys/fs/cgroup -type d -name magpie-cluster",
		"processes":  "find /sys/fs/cgroup -path '*/magpie-cluster/*' -name cgroup.procs -exec cat {} + | sort -u",
		"folders":    "ls -d /run/magpie-cluster /var/lib/kubelet /var/lib/containerd /var/lib/cni /var/log/pods /etc/cni /run/containerd 2>/dev/null || true",
		"sysctls":    "cat /proc/sys/vm/overcommit_memory /proc/sys/kernel/panic /proc/sys/kernel/panic_on_oops /proc/sys/net/ipv4/ip_forward",
	} {
		state[what] = mustRun(tb, "sh", "-c", script)
	}
	return state
}

func mustRun(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	output, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, output)
	}
	return string(output)
}

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const agentLabel = "app.kubernetes.io/name=magpie-agent"

// leftTime is how long anything of an agent may be left after its last session, and the last connection that passes through it.
const leftTime = 5 * time.Second

// mustLeaveNothing waits until neither agent nor Job is left in the namespace, nor a BPF link on its pods.
func mustLeaveNothing(tb testing.TB, namespace string, limit time.Duration) {
	tb.Helper()
	took := within(tb, limit, func() error {
		left := append(names(tb, namespace, "jobs", agentLabel), names(tb, namespace, "pods", agentLabel)...)
		if links := stealLinks(tb, namespace); len(left) > 0 || links > 0 {
			return fmt.Errorf("left: %v, %d links", left, links)
		}
		return nil
	})
	tb.Logf("nothing was left after %v", took.Round(100*time.Millisecond))
}

// stealLinks counts the sk_lookup links on the pods of a namespace: nobody but an agent makes one.
func stealLinks(tb testing.TB, namespace string) (n int) {
	tb.Helper()
	out, err := exec.Command("bpftool", "-j", "link", "show").Output()
	if err != nil {
		tb.Fatal(err)
	}
	var links []struct {
		AttachType string `json:"attach_type"`
		Netns      uint64 `json:"netns_ino"`
	}
	mustDecode(tb, string(out), &links)
	pods := map[uint64]bool{}
	for _, pid := range processes(tb, namespace, "") {
		var st unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st) == nil {
			pods[st.Ino] = true
		}
	}
	for _, l := range links {
		if l.AttachType == "sk_lookup" && pods[l.Netns] {
			n++
		}
	}
	return n
}

// processes are those of a namespace's pods with the label: the machine sees into its nodes.
func processes(tb testing.TB, namespace, label string) (pids []int) {
	tb.Helper()
	uids := strings.Fields(mustKubectl(tb, "-n", namespace, "get", "pods", "-l", label, "-o", "jsonpath={.items[*].metadata.uid}"))
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		tb.Fatal(err)
	}
	for _, path := range groups {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		for _, uid := range uids {
			if strings.Contains(string(text), uid) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// agentProcess finds the one agent in a namespace.
func agentProcess(tb testing.TB, namespace string) int {
	tb.Helper()
	var agents []int
	for _, pid := range processes(tb, namespace, agentLabel) {
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.TrimSpace(string(name)) == "magpie-agent" {
			agents = append(agents, pid)
		}
	}
	if len(agents) != 1 {
		tb.Fatalf("not one agent: %v", agents)
	}
	return agents[0]
}

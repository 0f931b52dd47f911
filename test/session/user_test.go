package session

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

func TestAnOrdinaryUserGetsTheAgentThroughSudo(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":80")
	before := census(t, n.Target)
	dev := withAgent(t)
	m := dev.exec(t, n, "--http-header-filter", "x-user: me", "--env", serving+"=1", "--", filepath.Join(programs, "small"), "http", "local", ":80")
	m.WaitFor(t, "ready")
	agent := agentOf(t, m)
	if uid := idsOf(t, agent, "Uid"); uid != "0 0 0 0" {
		t.Errorf("the agent's user ids: %s", uid)
	}
	if uid := idsOf(t, m.Cmd.Process.Pid, "Uid"); uid != "20001 20001 20001 20001" {
		t.Errorf("magpie's user ids: %s", uid)
	}
	if caps := idsOf(t, m.Cmd.Process.Pid, "CapEff"); strings.Trim(caps, "0") != "" {
		t.Errorf("magpie's capabilities: %s", caps)
	}
	addr := net.JoinHostPort(n.Target.Addr4.String(), "80")
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "local" || a.client != a.as {
		t.Errorf("answered by %q, who saw %s instead of %s", a.by, a.client, a.as)
	}
	if a := mustGet(t, n.Client, addr, "/", "x-user: you"); a.by != "original" || a.client != a.as {
		t.Errorf("answered by %q, who saw %s instead of %s", a.by, a.client, a.as)
	}
	socket := doorOf(n) + ".sock"
	if st, err := os.Stat(filepath.Dir(socket)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the folder of the agents' sockets: %v, %v", st.Mode(), err)
	}
	if _, err := os.Stat(socket); err != nil {
		t.Error(err)
	}
	gone := ended(t, agent)
	m.Stop(t)
	gone()
	mustBeUntouched(t, n, before)
	mustBeEmpty(t, dev.temp)
}

func TestWithoutTheRightOneLineOfCauseAndOneOfHint(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	before := census(t, n.Target)
	small := filepath.Join(programs, "small")
	for _, c := range []struct{ name, rules, path, cause string }{
		{"not in sudoers", "", "", "magpie: agent: not started: sudo: "},
		{"only for other programs", "dev ALL=(root) NOPASSWD: /bin/true", "", "magpie: agent: not started: sudo: "},
		{"no sudo", "", "/nowhere", "magpie: agent: needs root on this machine, and there is no sudo"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev := newDeveloper(t, c.rules)
			args := []string{filepath.Join(programs, "magpie"), "exec", "--target", "netns/" + n.Target.Name, "--steal", "--", small, "http", "local", ":8080"}
			if c.path != "" {
				args = append([]string{"env", "PATH=" + c.path}, args...)
			}
			m := dev.start(t, dev.command(args[0], args[1:]...))
			if got := m.Status(t); got != 125 {
				t.Errorf("exit status %d, want 125", got)
			}
			mustSayCauseAndHint(t, m, c.cause, "run magpie as root")
			mustBeEmpty(t, dev.temp)
		})
	}
	mustBeUntouched(t, n, before)
}

// idsOf returns a line of proc_pid_status(5), its fields parted by one space.
func idsOf(tb testing.TB, pid int, key string) string {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.Join(strings.Fields(rest), " ")
		}
	}
	tb.Fatalf("no %s in /proc/%d/status", key, pid)
	return ""
}

// mustSayCauseAndHint fails unless magpie said two lines: a cause that starts and a hint that contains what is given.
func mustSayCauseAndHint(tb testing.TB, m *testrun.Program, cause, hint string) {
	tb.Helper()
	m.WaitFor(tb, "hint: ")
	lines := strings.Split(m.Output(), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], cause) || !strings.HasPrefix(lines[1], "hint: ") || !strings.Contains(lines[1], hint) {
		tb.Errorf("said\n%s\nwant one line %q... and one with the hint %q", m.Output(), cause, hint)
	}
}

// doorOf is the path of what the agent of a target has in /run, without the ending.
func doorOf(n *testnet.Net) string {
	return fmt.Sprintf("/run/magpie/netns-%d", n.Target.NS.ID().Ino)
}

// mustBeUntouched fails unless the target is as it was, and the host has nothing of an agent for it.
func mustBeUntouched(tb testing.TB, n *testnet.Net, before string) {
	tb.Helper()
	testrun.Eventually(tb, func() error {
		if left, _ := filepath.Glob(doorOf(n) + ".*"); len(left) > 0 {
			return fmt.Errorf("left behind: %v", left)
		}
		return nil
	})
	if after := census(tb, n.Target); after != before {
		tb.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func mustBeEmpty(tb testing.TB, dir string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		tb.Errorf("left in %s: %v, %v", dir, entries, err)
	}
}

package session

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// mustFail runs magpie with the arguments and fails unless it ends with the status, one line of cause and one of hint.
func mustFail(t *testing.T, status int, cause, hint string, args ...string) {
	t.Helper()
	begin := time.Now()
	m := startExec(t, args...)
	if got := m.Status(t); got != status {
		t.Errorf("exit status %d, want %d", got, status)
	}
	mustSayCauseAndHint(t, m, "magpie: "+cause, hint)
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestWrongTargetsAreExplained(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(dead.Process.Pid)
	name := n.Target.Name
	for _, c := range []struct{ target, cause, hint string }{
		{"nets/shop", `target "nets/shop": there is no kind "nets"`, "netns/shop"},
		{name, fmt.Sprintf("target %q: of which kind?", name), "netns/" + name},
		{"4711", `target "4711": of which kind?`, "pid/4711"},
	} {
		t.Run(c.target, func(t *testing.T) {
			mustFail(t, 2, c.cause, c.hint, "--target", c.target, "--steal", "--", "true")
		})
	}
	for _, c := range []struct{ target, cause, hint string }{
		{"netns/", `target "netns/": it has no name`, "netns/NAME"},
		{"netns/" + name + "x", "target netns/" + name + "x: no such network namespace", "netns/" + name},
		{"netns/../../proc/1/ns/net", "target netns/../../proc/1/ns/net: ", ""},
		{"pid/" + pid, "target pid/" + pid + ": no such process", "pgrep"},
		{"pid/zero", `target pid/zero: "zero" is not a process id`, "pid/4711"},
		{"pid/-1", `target pid/-1: "-1" is not a process id`, "pid/4711"},
		{"pid/99999999999999999999", "target pid/99999999999999999999: ", "pid/4711"},
	} {
		t.Run(c.target, func(t *testing.T) {
			mustFail(t, 125, c.cause, c.hint, "--target", c.target, "--steal", "--", "true")
		})
	}
}

func TestWhatCannotRunIsFoundBeforeAnAgentIsStarted(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	target := []string{"--target", "netns/" + n.Target.Name, "--steal"}
	for _, c := range []struct {
		name   string
		status int
		cause  string
		args   []string
	}{
		{"not there", 127, "./nothing: command not found", []string{"--", "./nothing"}},
		{"not in PATH", 127, "no-such-program: command not found", []string{"--", "no-such-program"}},
		{"not executable", 126, plain + ": permission denied", []string{"--", plain}},
		{"a folder", 126, "/tmp: ", []string{"--", "/tmp"}},
		{"flag", 2, "unknown flag: --steel", []string{"--steel", "--", "true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mustFail(t, c.status, c.cause, "", append(target, c.args...)...)
			if left, _ := filepath.Glob(doorOf(n) + ".*"); len(left) > 0 {
				t.Errorf("an agent was started: %v", left)
			}
		})
	}
}

// TestWhatOnlyTheKernelKnowsToBeNoProgram is found when it is executed, and nothing is left.
func TestWhatOnlyTheKernelKnowsToBeNoProgramIsToldSo(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	before := census(t, n.Target)
	dir := t.TempDir()
	for name, content := range map[string]string{"garbage": "\x00\x01\x02", "orphan": "#!/no/such/interpreter\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, status := range map[string]int{"garbage": 126, "orphan": 127} {
		m := startExec(t, "--target", "netns/"+n.Target.Name, "--steal", "--", filepath.Join(dir, name))
		if got := m.Status(t); got != status {
			t.Errorf("%s: exit status %d, want %d", name, got, status)
		}
		m.WaitFor(t, filepath.Join(dir, name)+": ")
		m.WaitFor(t, "hint: ")
	}
	mustBeUntouched(t, n, before)
}

// TestATargetThatDiesMeanwhileIsToldSo kills it at some moment: however far magpie has come, it ends, and says why.
func TestATargetThatDiesMeanwhileIsToldSo(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	before := census(t, n.Target)
	early := 0
	for range 12 {
		target := exec.Command("sleep", "60")
		n.Target.Start(t, target)
		name := fmt.Sprintf("pid/%d", target.Process.Pid)
		m := startExec(t, "--target", name, "--steal", "--", "sleep", "50")
		delay, _ := rand.Int(rand.Reader, big.NewInt(int64(90*time.Millisecond)))
		time.Sleep(time.Duration(delay.Int64()))
		_ = target.Process.Kill()
		_ = target.Wait()
		if got := m.Status(t); got != 125 {
			t.Errorf("exit status %d, want 125:\n%s", got, m.Output())
		}
		if t.Failed() {
			t.Logf("killed after %v", delay)
		}
		m.WaitFor(t, name)
		m.WaitFor(t, "hint: ")
		if !strings.Contains(m.Output(), "stands beside") {
			early++
		}
	}
	t.Logf("%d of 12 died before there was an agent", early)
	mustBeUntouched(t, n, before)
}

func TestANamespaceThatGoesEndsTheSession(t *testing.T) {
	t.Parallel()
	host := testnet.Lone(t)
	name := host.Name + "x"
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m := startExec(t, "--target", "netns/"+name, "--steal", "--", "sleep", "50")
	m.WaitFor(t, "environment")
	if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := m.Status(t); got != 125 {
		t.Errorf("exit status %d, want 125", got)
	}
	m.WaitFor(t, "netns/"+name)
	m.WaitFor(t, "hint: ")
}

func TestTwoWhoWantEveryConnection(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "echo", ":9000")
	args := []string{"--target", "netns/" + n.Target.Name, "--steal"}
	startLocal(t, args, "echo", ":9000").WaitFor(t, "ready")
	second := startLocal(t, args, "echo", ":9000")
	line := second.WaitFor(t, "refused")
	for _, part := range []string{"port 9000", "takes every connection", "since"} {
		if !strings.Contains(line, part) {
			t.Errorf("no %q in %q", part, line)
		}
	}
	second.WaitFor(t, "hint: ")
	second.WaitFor(t, "address already in use")
	if got := second.Status(t); got != 1 {
		t.Errorf("exit status %d, want the command's own", got)
	}
	// A filter is asked before those without: there is room beside them.
	third := startLocal(t, append(args, "--http-header-filter", "x-user: me"), "http", ":9000")
	third.WaitFor(t, "ready")
}

// TestCtrlCWhileAttachingLeavesNothing interrupts at some moment: before the command runs, magpie ends as it would.
func TestCtrlCWhileAttachingLeavesNothing(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	before := census(t, n.Target)
	dev := withAgent(t)
	for range 8 {
		m := dev.exec(t, n, "--", "sleep", "50")
		delay, _ := rand.Int(rand.Reader, big.NewInt(int64(150*time.Millisecond)))
		time.Sleep(time.Duration(delay.Int64()))
		m.Interrupt()
		// -1: it was not magpie yet, but the shell that starts it here.
		if got := m.Status(t); got != 130 && got != -1 {
			t.Errorf("after %v, exit status %d:\n%s", time.Duration(delay.Int64()), got, m.Output())
		}
		mustBeEmpty(t, dev.temp)
	}
	mustBeUntouched(t, n, before)
}

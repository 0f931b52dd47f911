//go:build linux && (amd64 || arm64)

package unotify

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProgramRunsAsItWouldWithoutUs(t *testing.T) {
	for _, c := range []struct {
		script string
		exit   int
	}{
		{"exit 0", 0}, {"exit 42", 42}, {"kill -TERM $$", 128 + 15}, {"true | (exit 3)", 3},
	} {
		p, _ := mustRun(t, Command{Path: "/bin/sh", Args: []string{"sh", "-c", c.script}, Env: []string{}})
		if got := p; got != c.exit {
			t.Errorf("%q: status %d, want %d", c.script, got, c.exit)
		}
	}
}

func TestProgramGetsExactlyTheGivenEnvironmentArgumentsAndDescriptors(t *testing.T) {
	big := "BIG=" + strings.Repeat("x", 100_000)
	env := []string{"B=2", "A=1", "BYTES=\xff\xfe", "A=again", big}
	_, out := mustRun(t, Command{Path: "/usr/bin/env", Args: []string{"env", "-0"}, Env: env})
	if got := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00"); !slices.Equal(got, env) {
		t.Errorf("environment of %d strings, want %d: %.200q", len(got), len(env), got)
	}

	script := `pwd; umask; ulimit -n; printf "$1"; exec ls /proc/self/fd`
	args := []string{"sh", "-c", script, "x", "\xffy"}
	dir := t.TempDir()
	_, out = mustRun(t, Command{Path: "/bin/sh", Args: args, Dir: dir, Stdin: nil})
	native := exec.Command("/bin/sh", args[1:]...)
	native.Dir = dir
	want, err := native.Output()
	if err != nil {
		t.Fatal(err)
	}
	if out != string(want) {
		t.Errorf("got %q, natively %q", out, want)
	}
}

func TestProgramStartsWithTheSignalsWeWereStartedWith(t *testing.T) {
	signal.Ignore(unix.SIGHUP)
	defer signal.Reset(unix.SIGHUP)
	_, out := mustRun(t, Command{Path: "/proc/self/exe", Args: []string{"helper-status"}})
	native := exec.Command("/proc/self/exe")
	native.Args = []string{"helper-status"}
	want, err := native.Output()
	if err != nil {
		t.Fatal(err)
	}
	if out != string(want) {
		t.Errorf("signal state is\n%snatively\n%s", out, want)
	}
}

func TestStartSaysWhyAProgramCannotBeExecuted(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	shut := filepath.Join(t.TempDir(), "shut")
	if err := os.WriteFile(shut, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{"/no/such": fs.ErrNotExist, shut: fs.ErrPermission, plain: unix.ENOEXEC} {
		_, err := Start(Command{Path: path, Args: []string{path}}, nil)
		if !errors.Is(err, want) {
			t.Errorf("start %s: %v, want %v", path, err, want)
		}
	}
	if _, err := Start(Command{Path: "/bin/true", Dir: "/no/such"}, nil); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("start in a folder that is not there: %v", err)
	}
}

// With a single processor the thread that sends the descriptor can only run when the one under the filter lets it.
func TestStartWorksOnOneProcessor(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil { // inherited by the stages
		t.Fatal(err)
	}
	defer unix.SchedSetaffinity(0, &all)
	for range 20 {
		if status, _ := mustRun(t, Command{Path: "/bin/true", Args: []string{"true"}}); status != 0 {
			t.Fatalf("status %d", status)
		}
	}
}

func TestSupervisorInsideASupervisorIsRefused(t *testing.T) {
	status, out := mustRun(t, Command{Path: "/proc/self/exe", Args: []string{"helper-supervisor", "/bin/true"}})
	if status == 0 || !strings.Contains(out, "Magpie does not run inside Magpie") {
		t.Errorf("status %d, %q", status, out)
	}
}

// What starting a program costs, the guard and the launcher before it.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		mustRun(b, Command{Path: "/bin/true", Args: []string{"true"}})
	}
}

// A grandchild in its own session, which ignores what it can, and the supervisor gone by SIGKILL: nothing may stay.
func TestNothingOfTheTreeOutlivesASupervisorThatIsKilled(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sup := exec.CommandContext(t.Context(), "/proc/self/exe")
	sup.Args = []string{"helper-supervisor", "/bin/sh", "-c", "setsid sh -c 'trap \"\" HUP TERM INT; (sleep 1000 & sleep 1000) & echo up; sleep 1000' & sleep 1000"}
	sup.Stdout = w
	if err := sup.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := io.ReadFull(r, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	tree, err := descendants(sup.Process.Pid)
	if err != nil || len(tree) < 4 {
		t.Fatalf("tree %v, %v", tree, err)
	}
	if err := sup.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_ = sup.Wait()
	// Every process of the tree but the guard held the pipe: its end is theirs.
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("read %q, %v", rest, err)
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("the tree lived on for %v", d)
	}
	for _, pid := range tree {
		for unix.Kill(pid, 0) == nil {
			if _, alive := parentOf(strconv.Itoa(pid)); !alive {
				break // only its parent has not looked yet
			}
			if time.Since(begin) > time.Second {
				t.Errorf("process %d lives", pid)
				break
			}
		}
	}
}

func TestCloseEndsTheTreeAtOnce(t *testing.T) {
	p, err := Start(Command{Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 1000 & sleep 1000"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- p.Serve(func(*Call) Verdict { return Continue() }) }()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestDaemonIsServedAfterTheProgramHasEnded(t *testing.T) {
	script := `(sleep 0.2; cat /asked) & exit 5`
	status, out := mustServe(t, Command{Path: "/bin/sh", Args: []string{"sh", "-c", script}}, []Rule{Notify(unix.SYS_OPENAT)},
		func(c *Call) Verdict {
			if name, _ := c.ReadString(c.Args[1], 4096); name == "/asked" {
				return Fail(unix.EXDEV)
			}
			return Continue()
		})
	if status != 5 || !strings.Contains(out, "cross-device") {
		t.Errorf("status %d, %q", status, out)
	}
}

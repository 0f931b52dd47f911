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
	"sync"
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

func TestHandlerSeesAndDecidesCalls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "given")
	if err := os.WriteFile(path, []byte("from us\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var asked []string
	_, out := mustServe(t, Command{Path: "/bin/cat", Args: []string{"cat", "/asked", "/denied"}},
		[]Rule{Notify(unix.SYS_OPENAT)},
		func(c *Call) Verdict {
			name, err := c.ReadString(c.Args[1], 4096)
			if err != nil {
				t.Error(err)
			}
			asked = append(asked, name)
			switch name {
			case "/asked":
				fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return Fail(unix.EIO)
				}
				return AddFD(fd, true)
			case "/denied":
				return Fail(unix.EHOSTUNREACH)
			default:
				return Continue()
			}
		})
	if !strings.Contains(out, "from us\n") || !strings.Contains(out, "No route to host") {
		t.Errorf("cat says %q; asked for %q", out, asked)
	}
}

func TestMemoryOfTheCallerIsReadAndWrittenToTheLastByteOfItsPage(t *testing.T) {
	_, out := mustServe(t, Command{Path: "/proc/self/exe", Args: []string{"helper-pgid", "page"}}, []Rule{Notify(unix.SYS_GETPGID)},
		func(c *Call) Verdict {
			s, err := c.ReadString(c.Args[0], 4096)
			if err != nil || s != "edge" {
				t.Errorf("read %q, %v", s, err)
			}
			if err := c.ReadMem(c.Args[0], make([]byte, 6)); !errors.Is(err, unix.EFAULT) {
				t.Errorf("read over the page border: %v", err)
			}
			if err := c.WriteMem(c.Args[0], []byte("EDGE")); err != nil {
				t.Error(err)
			}
			if err := c.WriteMem(c.Args[0], []byte("123456")); !errors.Is(err, unix.EFAULT) {
				t.Errorf("write over the page border: %v", err)
			}
			return Return(7)
		})
	if out != "7 1234\n" && out != "7 EDGE\n" { // how much of a write that fails gets through is the kernel's choice
		t.Errorf("got %q", out)
	}
}

// What starting a program costs, the guard and the launcher before it.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		mustRun(b, Command{Path: "/bin/true", Args: []string{"true"}})
	}
}

// Each collection interrupts our threads; an answer lost to that would hang the program.
func TestNoAnswerIsLostUnderGarbageCollection(t *testing.T) {
	stop := make(chan struct{})
	var collecting sync.WaitGroup
	collecting.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	defer collecting.Wait()
	defer close(stop)
	_, out := mustServe(t, Command{Path: "/proc/self/exe", Args: []string{"helper-pgid", "5000"}}, []Rule{Notify(unix.SYS_GETPGID)},
		func(c *Call) Verdict {
			if c.Args[0]%8 == 0 {
				go c.Answer(Return(int(c.Args[0]) + 1))
				return Later()
			}
			return Return(int(c.Args[0]) + 1)
		})
	if out != "done\n" {
		t.Errorf("got %q", out)
	}
}

// The Go runtime signals its own threads: whatever we are doing then, a call gets its descriptor or none, never a mere number.
func TestDescriptorsAreHandedOverUnderSignalsOfOurOwn(t *testing.T) {
	stop := make(chan struct{})
	tid := make(chan int, 1)
	var signalling sync.WaitGroup
	signalling.Go(func() {
		to := 0
		for {
			select {
			case <-stop:
				return
			case to = <-tid:
			default:
				if to != 0 {
					_ = unix.Tgkill(os.Getpid(), to, unix.SIGURG)
				}
			}
		}
	})
	defer signalling.Wait()
	defer close(stop)
	_, out := mustServe(t, Command{Path: "/proc/self/exe", Args: []string{"helper-open", "3000"}}, []Rule{Notify(unix.SYS_GETPGID)},
		func(*Call) Verdict {
			select {
			case tid <- unix.Gettid(): // Serve has a thread of its own
			default:
			}
			fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return Fail(unix.EMFILE)
			}
			return AddFD(fd, true)
		})
	if out != "done\n" {
		t.Errorf("got %.200q", out)
	}
}

func TestAnswerTellsThatASignalTookTheCallAway(t *testing.T) {
	var lost bool
	held := make(chan *Call, 1)
	_, out := mustServe(t, Command{Path: "/proc/self/exe", Args: []string{"helper-alarm"}}, []Rule{Notify(unix.SYS_GETPGID)},
		func(c *Call) Verdict {
			if c.Args[0] == 0 { // is interrupted by the program itself, which then calls again
				held <- c
				interrupt(t, c)
				return Later()
			}
			lost = !(<-held).Answer(Return(1))
			return Return(2)
		})
	if out != "interrupted system call 2 0\n" || !lost {
		t.Errorf("got %q, lost %v", out, lost)
	}
}

// The thread is in its next call: what was meant for the one before must not be found there.
func TestNothingIsWrittenForACallThatItsThreadHasLeft(t *testing.T) {
	var late error
	held := make(chan *Call, 1)
	_, out := mustServe(t, Command{Path: "/proc/self/exe", Args: []string{"helper-alarm"}}, []Rule{Notify(unix.SYS_GETPGID)},
		func(c *Call) Verdict {
			if c.Args[0] == 0 {
				if err := c.WriteMem(c.Args[1], []byte{7}); err != nil {
					t.Error(err)
				}
				held <- c
				interrupt(t, c)
				return Later()
			}
			late = (<-held).WriteMem(c.Args[1], []byte{8})
			return Return(2)
		})
	if out != "interrupted system call 2 7\n" || !errors.Is(late, unix.ESRCH) {
		t.Errorf("got %q, %v", out, late)
	}
}

func TestCallThatASignalTookAwayIsKnownWhenItIsMadeAgain(t *testing.T) {
	var again []bool
	_, out := mustServe(t, Command{Path: "/proc/self/exe", Args: []string{"helper-alarm", "restart"}}, []Rule{Notify(unix.SYS_GETPGID)},
		func(c *Call) Verdict {
			again = append(again, c.Again())
			if len(again) > 1 {
				c.Answer(Return(len(again)))
			} else {
				interrupt(t, c)
			}
			return Later()
		})
	if out != "2 3\n" || !slices.Equal(again, []bool{false, true, false}) {
		t.Errorf("got %q, again %v", out, again)
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

//go:build linux && (amd64 || arm64)

package unotify

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// What a call costs that is continued at once.
func BenchmarkCall(b *testing.B) {
	mustServe(b, Command{Path: "/proc/self/exe", Args: []string{"helper-pgid", strconv.Itoa(b.N), "alone"}}, []Rule{Notify(unix.SYS_GETPGID)},
		func(*Call) Verdict { return Continue() })
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

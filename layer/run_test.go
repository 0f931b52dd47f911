package layer_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/layer"
)

func TestSessionThatEndsEndsItsProcesses(t *testing.T) {
	for name, script := range map[string]string{
		"asked":   `echo up; exec sleep 1000`,
		"forced":  `trap "" TERM; echo up; while :; do sleep 1000; done`,
		"orphans": `setsid sh -c 'trap "" TERM; echo up; sleep 1000; sleep 1000' & wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := layer.Run(ctx, layer.Config{Args: []string{"sh", "-c", script}, Env: os.Environ(), Stdout: w}, brokeredPod{})
				w.Close()
				ended <- err
			}()
			if _, err := io.ReadFull(r, make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 { // until the last who could write is gone
				t.Errorf("read %q, %v", rest, err)
			}
		})
	}
}

// The process has ended and left a daemon behind: Ctrl-C must give the prompt back.
func TestSignalEndsWhatTheProcessLeftBehind(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStart(t, []string{"/bin/sh", "-c", "setsid sleep 1000 & echo up; exit 7"})
	l.expect(t, "up")
	begin := time.Now()
	for alive := true; alive; { // a signal that comes before its end is meant for the process
		l.Process.Signal(syscall.SIGINT)
		select {
		case <-l.done:
			alive = false
		case <-time.After(20 * time.Millisecond):
		}
		if time.Since(begin) > patience {
			t.Fatal("the daemon lives on")
		}
	}
	if code := l.mustExit(t); code != 7 {
		t.Errorf("exit status %d, want that of the process", code)
	}
}

// Without the right to read its file a program runs, but nobody may look into it. Better no network than this host's.
func TestProgramsThatNobodyMayLookIntoGetNoConnections(t *testing.T) {
	w := mustWorld(t)
	path := mustCopy(t, "/usr/bin/python3", 0o711)
	argv := pythonCalls(`say(connect(tcp(), WEB, 80), connect(tcp(False), WEB, 80))`)
	argv[0] = path
	l := w.mustStart(t, argv)
	l.expect(t, "ENETUNREACH ENETUNREACH")
	l.mustExit(t)
	if !strings.Contains(l.stderr.String(), "may not be looked into") {
		t.Errorf("nobody said why: %s", l.stderr.String())
	}
}

func mustCopy(tb testing.TB, name string, mode os.FileMode) string {
	tb.Helper()
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(real)
	if err != nil {
		tb.Fatal(err)
	}
	to := filepath.Join(mustFolder(tb), "program")
	if err := os.WriteFile(to, b, mode); err != nil {
		tb.Fatal(err)
	}
	return to
}

func TestProgramsOfAForeignABIGetNoConnections(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("this machine has no second ABI that Go can build for")
	}
	w := mustWorld(t)
	to := filepath.Join(mustFolder(t), "foreign")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", to, "./testdata/foreign")
	build.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.mustStart(t, []string{to}).expect(t, "address family not supported by protocol")
}

// accept(2) fails for want of a descriptor, and the client waits until there is one.
func TestClientWaitsForADescriptorOfTheProgram(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStart(t, pythonCalls(`
import resource
s = tcp()
s.bind(("", 8080))
s.listen()
say("up")
poll(s)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (s.fileno() + 1, hard))
say(accept(s))
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
fd = int(accept(s))
os.write(fd, b"hello\n")`))
	l.expect(t, "up")
	c, err := w.net.dial(clientV4, podV4+":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l.expect(t, "EMFILE")
	c.SetDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(c); string(b) != "hello\n" {
		t.Errorf("got %q, %v", b, err)
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/magpie-k8s/magpie/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs the command, and returns its exit status.
func start(ctx context.Context, tb testing.TB, args ...string) <-chan int {
	tb.Helper()
	status := make(chan int, 1)
	go func() { status <- run(ctx, args, strings.NewReader(""), io.Discard, io.Discard) }()
	return status
}

func within(tb testing.TB, what string, status <-chan int) int {
	tb.Helper()
	select {
	case s := <-status:
		return s
	case <-time.After(10 * time.Second):
		tb.Fatalf("%s: still there", what)
		return 0
	}
}

func mustExist(tb testing.TB, path string) {
	tb.Helper()
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	tb.Fatalf("there is no %s", path)
}

// execPipe is what a client has of an exec: the standard streams of `magpie-agent pipe`.
type execPipe struct {
	io.Reader
	io.WriteCloser
}

func mustExec(tb testing.TB, socket string) (execPipe, <-chan int) {
	tb.Helper()
	fromUs, toIt := io.Pipe()
	fromIt, toUs := io.Pipe()
	status := make(chan int, 1)
	go func() {
		status <- run(context.Background(), []string{"pipe", "--socket", socket}, fromUs, toUs, io.Discard)
		toUs.Close()
		fromUs.Close()
	}()
	return execPipe{fromIt, toIt}, status
}

func TestASessionComesByWayOfExec(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	status := start(t.Context(), t, "serve", "--target", "none", "--listen", "unix:"+socket, "--termination-log", "")
	mustExist(t, socket)
	pipe, piped := mustExec(t, socket)
	c := wire.Client(wire.NewBond(pipe, nil, 1))
	calls, err := c.Calls(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hello, err := calls.Hello(t.Context(), &wire.HelloRequest{})
	if err != nil || hello.Target.Name != "none" {
		t.Errorf("%v, %v", hello, err)
	}
	// There is no Job to clear away, and the next session is let in for a second more.
	if resp, err := calls.Leave(t.Context(), &wire.LeaveRequest{}); err != nil || resp.Last {
		t.Errorf("%v, %v", resp, err)
	}
	c.Close()
	if s := within(t, "pipe", piped); s != 0 {
		t.Errorf("pipe: status %d", s)
	}
	if s := within(t, "serve", status); s != 0 {
		t.Errorf("serve: status %d", s)
	}
}

func TestPipeEndsEachDirectionByItself(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c) // until the way there has ended
		heard <- string(b)
		_, _ = io.WriteString(c, "the way back is open")
	}()
	var out bytes.Buffer
	if s := run(t.Context(), []string{"pipe", "--socket", socket}, strings.NewReader("all of it"), &out, io.Discard); s != 0 {
		t.Errorf("status %d", s)
	}
	if got := <-heard; got != "all of it" || out.String() != "the way back is open" {
		t.Errorf("there %q, back %q", got, out.String())
	}
}

func TestPipeWithoutAnAgentFails(t *testing.T) {
	var stderr bytes.Buffer
	if s := run(t.Context(), []string{"pipe", "--socket", filepath.Join(t.TempDir(), "no.sock")}, strings.NewReader(""), io.Discard, &stderr); s != 1 {
		t.Errorf("status %d", s)
	}
	if !strings.Contains(stderr.String(), "no such file") {
		t.Errorf("%s", &stderr)
	}
}

func TestWhyItCannotStartIsInTheTerminationLog(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "termination-log")
	if err := os.WriteFile(log, []byte("something longer that was there before, and must not show at the end of what is written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := run(t.Context(), []string{"serve", "--target", "container/nonsense", "--listen", "unix:" + filepath.Join(dir, "s"), "--termination-log", log}, nil, io.Discard, io.Discard); s != 1 {
		t.Errorf("status %d", s)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var words struct {
		Errno       int
		Cause, Hint string
	}
	if err := json.Unmarshal(b, &words); err != nil || words.Errno != 22 || words.Cause != `target container/nonsense: "nonsense" is not a container id` || words.Hint == "" {
		t.Errorf("%s: %+v, %v", b, words, err)
	}
	// Where no runtime made one, none is made.
	none := filepath.Join(dir, "none")
	run(t.Context(), []string{"serve", "--target", "container/nonsense", "--listen", "unix:" + filepath.Join(dir, "s"), "--termination-log", none}, nil, io.Discard, io.Discard)
	if _, err := os.Stat(none); err == nil {
		t.Error("a file was made")
	}
}

func TestWhereToListenIsChecked(t *testing.T) {
	for _, args := range [][]string{
		{}, {"--listen", "5040"}, {"--listen", "udp:127.0.0.1:5040"}, {"--listen", "tcp:"}, {"--listen", "unix:"}, {"--listen", "unix:/tmp/x", "--socket", "/tmp/y"},
	} {
		if s := run(t.Context(), append([]string{"serve", "--target", "none", "--termination-log", ""}, args...), nil, io.Discard, io.Discard); s != 1 {
			t.Errorf("%v: status %d", args, s)
		}
	}
}

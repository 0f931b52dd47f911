package session

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// patience bounds every wait of these tests.
const patience = 15 * time.Second

// magpie is one `magpie exec` under test.
type magpie struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced when a line comes
}

// startExec starts magpie exec with the arguments. It is ended with the test.
func startExec(tb testing.TB, args ...string) *magpie {
	tb.Helper()
	return start(tb, exec.Command(filepath.Join(programs, "magpie"), append([]string{"exec"}, args...)...))
}

func start(tb testing.TB, cmd *exec.Cmd) *magpie {
	tb.Helper()
	return startBy(tb, cmd, cmd.Start)
}

// startBy starts the command by launch, in another namespace perhaps.
func startBy(tb testing.TB, cmd *exec.Cmd, launch func() error) *magpie {
	tb.Helper()
	m := &magpie{cmd: cmd, done: make(chan struct{}), more: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true // a group of its own, as a shell makes, and no terminal of whoever runs the tests
	err = launch()
	w.Close()
	if err != nil {
		tb.Fatal(err)
	}
	go m.read(r)
	go func() {
		m.err = cmd.Wait()
		close(m.done)
	}()
	tb.Cleanup(func() {
		m.stop(tb)
		if tb.Failed() {
			tb.Logf("%s:\n%s", strings.Join(cmd.Args, " "), m.output())
		}
	})
	return m
}

func (m *magpie) read(r *os.File) {
	defer r.Close()
	for s := bufio.NewScanner(r); s.Scan(); {
		m.mu.Lock()
		m.lines = append(m.lines, s.Text())
		close(m.more)
		m.more = make(chan struct{})
		m.mu.Unlock()
	}
}

func (m *magpie) output() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.lines, "\n")
}

// waitFor waits for a line with the text and returns it.
func (m *magpie) waitFor(tb testing.TB, text string) string {
	tb.Helper()
	timeout := time.After(patience)
	for seen := 0; ; {
		m.mu.Lock()
		for ; seen < len(m.lines); seen++ {
			if strings.Contains(m.lines[seen], text) {
				defer m.mu.Unlock()
				return m.lines[seen]
			}
		}
		more := m.more
		m.mu.Unlock()
		select {
		case <-more:
		case <-m.done:
			select {
			case <-more: // the last lines
			case <-time.After(100 * time.Millisecond):
				tb.Fatalf("magpie ended (%v) without %q:\n%s", m.err, text, m.output())
			}
		case <-timeout:
			tb.Fatalf("magpie did not say %q:\n%s", text, m.output())
		}
	}
}

// interrupt is a Ctrl-C: the terminal signals the whole group.
func (m *magpie) interrupt() { _ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGINT) }

// stop ends it as a user would, and waits.
func (m *magpie) stop(tb testing.TB) {
	tb.Helper()
	select {
	case <-m.done:
		return
	default:
	}
	m.interrupt()
	select {
	case <-m.done:
	case <-time.After(patience):
		_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL)
		tb.Errorf("magpie did not end on Ctrl-C:\n%s", m.output())
	}
}

// status waits for the exit status.
func (m *magpie) status(tb testing.TB) int {
	tb.Helper()
	select {
	case <-m.done:
	case <-time.After(patience):
		tb.Fatalf("magpie did not end:\n%s", m.output())
	}
	var exit *exec.ExitError
	if errors.As(m.err, &exit) {
		return exit.ExitCode()
	}
	if m.err != nil {
		tb.Fatal(m.err)
	}
	return 0
}

// eventually tries until it works, for as long as patience lasts.
func eventually(tb testing.TB, try func() error) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// dial connects from inside a namespace.
func dial(from *testnet.Host, addr string) (net.Conn, error) {
	var c net.Conn
	err := from.NS.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", addr, 5*time.Second)
		return err
	})
	return c, err
}

// answer is what came back, and who it was from.
type answer struct {
	by, client string
	as         string // the client's address as the client itself knows it
	body       string
	status     int
	last       bool // the connection ends with it
}

// get sends one request over a connection of its own.
func get(from *testnet.Host, addr, path string, headers ...string) (a answer, err error) {
	c, err := dial(from, addr)
	if err != nil {
		return a, err
	}
	defer c.Close()
	return ask(c, bufio.NewReader(c), path, headers...)
}

// ask sends one request over a connection.
func ask(c net.Conn, in *bufio.Reader, path string, headers ...string) (a answer, err error) {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	a.as = c.LocalAddr().String()
	head := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: shop\r\n", path)
	for _, h := range headers {
		head += h + "\r\n"
	}
	if _, err := io.WriteString(c, head+"\r\n"); err != nil {
		return a, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	a.by, a.client, a.body, a.status = resp.Header.Get("X-Answered-By"), resp.Header.Get("X-Client"), string(body), resp.StatusCode
	a.last = resp.Close
	return a, err
}

// mustGet is get for when it has to work.
func mustGet(tb testing.TB, from *testnet.Host, addr, path string, headers ...string) answer {
	tb.Helper()
	a, err := get(from, addr, path, headers...)
	if err != nil {
		tb.Fatalf("GET %s%s %q: %v", addr, path, headers, err)
	}
	return a
}

// lines is what a program says. Safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// want returns an error unless the text was said so many times.
func (l *lines) want(text string, times int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := strings.Count(l.text.String(), text); got != times {
		return fmt.Errorf("%q was said %d times, not %d:\n%s", text, got, times, l.text.String())
	}
	return nil
}

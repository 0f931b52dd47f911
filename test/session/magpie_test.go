package session

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// startExec starts magpie exec with the arguments. It is ended with the test.
func startExec(tb testing.TB, args ...string) *testrun.Program {
	tb.Helper()
	return start(tb, exec.Command(filepath.Join(programs, "magpie"), append([]string{"exec"}, args...)...))
}

func start(tb testing.TB, cmd *exec.Cmd) *testrun.Program {
	tb.Helper()
	return testrun.Start(tb, cmd, nil)
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

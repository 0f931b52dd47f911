package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/filters"
	"github.com/magpie-k8s/magpie/internal/testnet"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// program is the built agent.
var program string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "magpie-client-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, agentProgram)
	build := exec.Command("go", "build", "-o", program, "../cmd/magpie-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// answer serves who answers on a port of the host.
func answer(tb testing.TB, host *testnet.Host, who string, port int) {
	tb.Helper()
	host.Do(tb, func() error {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		serve(tb, l, who)
		return nil
	})
}

func serve(tb testing.TB, l net.Listener, who string) {
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, who) })}
	go func() { _ = server.Serve(l) }()
	tb.Cleanup(func() { server.Close() })
}

// listener is a claim as net/http wants it.
type listener struct{ *Claim }

func (l listener) Addr() net.Addr { return &net.TCPAddr{Port: int(l.Port)} }

func (l listener) Accept() (net.Conn, error) {
	in, err := l.Claim.Accept()
	if err != nil {
		return nil, err
	}
	return in, in.Accepted()
}

// begin opens a session on the field, with the steps it says.
func begin(tb testing.TB, f *field, command string) (*Session, *lines) {
	tb.Helper()
	said := &lines{}
	s, err := open(tb.Context(), Config{Target: "deploy/shop", Version: "devel", Command: []string{command}, Step: said.step}, f)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.Close()
		if tb.Failed() {
			tb.Logf("session %s said:\n%s", command, said)
		}
	})
	return s, said
}

// claim serves what comes with our header.
func claim(tb testing.TB, s *Session, who string) *Claim {
	tb.Helper()
	c, err := s.Claim(tb.Context(), 8080, Wish{Filter: mine(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	serve(tb, listener{c}, who)
	return c
}

func mine(tb testing.TB) *filters.Filter {
	tb.Helper()
	f, err := filters.Header("x-user: me")
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// lines is what was said. Safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) step(what, detail string) { fmt.Fprintf(l, "%-8s %s\n", what, detail) }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// has waits for a line that begins with what and contains the detail.
func (l *lines) has(tb testing.TB, what, detail string) {
	tb.Helper()
	eventually(tb, func() error {
		if !slices.ContainsFunc(strings.Split(l.String(), "\n"), func(line string) bool {
			return strings.HasPrefix(line, what+" ") && strings.Contains(line, detail)
		}) {
			return fmt.Errorf("no %q with %q was said:\n%s", what, detail, l)
		}
		return nil
	})
}

func eventually(tb testing.TB, try func() error) {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal(err)
		}
	}
}

var errGone = errors.New("deploy/shop is gone")

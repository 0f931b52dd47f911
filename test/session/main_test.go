// Package session holds the tests of whole sessions: the built programs, a real kernel, real sockets. Each is a promise
// to the user, tried as a user would. It never looks inside the programs.
package session

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// programs is where the built programs are.
var programs string

// serving makes this test program one of the small servers that the tests need; its arguments are KIND NAME ADDRESS[,ADDRESS...].
const serving = "MAGPIE_TEST_SERVING"

func TestMain(m *testing.M) {
	if os.Getenv(serving) != "" {
		fmt.Fprintln(os.Stderr, serve(os.Args[1], os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "magpie-session-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // an ordinary user runs them too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, what := range [][]string{{"./cmd/magpie", "./cmd/magpie-agent"}, {"./layer/testdata/programs/client.go"}} {
		build := exec.Command("go", append([]string{"build", "-o", dir + "/"}, what...)...)
		build.Dir = filepath.Join("..", "..")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
	}
	if err := copySelf(filepath.Join(dir, "small")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	programs = dir
	return m.Run()
}

// copySelf puts this very program where everybody may run it: go test keeps it in a folder of ours alone.
func copySelf(to string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	return os.WriteFile(to, program, 0o755)
}

// small returns the command for a small server.
func small(tb testing.TB, what, name, addr string) *exec.Cmd {
	tb.Helper()
	cmd := exec.Command(filepath.Join(programs, "small"), what, name, addr)
	cmd.Env = append(os.Environ(), serving+"=1")
	return cmd
}

// startOriginal starts a small server in the target and waits until it answers there.
func startOriginal(tb testing.TB, n *testnet.Net, what, addr string) *exec.Cmd {
	tb.Helper()
	_, port, _ := net.SplitHostPort(addr)
	cmd := small(tb, what, "original", addr)
	startIn(tb, n, cmd, port)
	return cmd
}

// startIn starts any server in the target and waits until it listens on the ports, on IPv4.
func startIn(tb testing.TB, n *testnet.Net, cmd *exec.Cmd, ports ...string) {
	tb.Helper()
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	testnet.NewCgroup(tb, "").Put(tb, cmd)
	n.Target.Start(tb, cmd)
	for _, port := range ports {
		testrun.Eventually(tb, func() error {
			c, err := dial(n.Target, net.JoinHostPort("127.0.0.1", port))
			if err == nil {
				c.Close()
			}
			return err
		})
	}
}

// serveTarget starts an agent by hand, and returns it with the socket to come by. It must end well with the test.
func serveTarget(tb testing.TB, n *testnet.Net) (agent *exec.Cmd, socket string) {
	tb.Helper()
	socket = filepath.Join(tb.TempDir(), "agent.sock")
	agent = exec.Command(filepath.Join(programs, "magpie-agent"), "serve", "--target", "netns/"+n.Target.Name, "--socket", socket)
	agent.Stderr = os.Stderr
	if err := agent.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = agent.Process.Signal(syscall.SIGTERM)
		if err := agent.Wait(); err != nil {
			tb.Errorf("agent: %v", err)
		}
	})
	testrun.Eventually(tb, func() error { _, err := os.Stat(socket); return err })
	return agent, socket
}

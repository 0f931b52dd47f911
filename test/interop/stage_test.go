package interop

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

const (
	claimed   = 8080 // where sessions have their claims
	unclaimed = 8079 // the same server, which nobody stands in front of

	// mine is the header of the requests that are stolen.
	mine = "x-user: me"

	// developerID is the user that developers are here: one that no host knows.
	developerID = "20001"
)

// A stage is a target, somebody who calls it, and, once there is a session, an agent.
type stage struct {
	net    *testnet.Net
	agent  *exec.Cmd
	socket string
}

func newStage(tb testing.TB) *stage {
	tb.Helper()
	return &stage{net: testnet.New(tb), socket: filepath.Join(openFolder(tb), "agent.sock")}
}

// serve starts the agent, once.
func (s *stage) serve(tb testing.TB, flags ...string) {
	tb.Helper()
	if s.agent != nil {
		return
	}
	args := append([]string{"serve", "--target", "netns/" + s.net.Target.Name, "--socket", s.socket}, flags...)
	s.agent = exec.Command(program("magpie-agent"), args...)
	var said strings.Builder
	s.agent.Stderr = &said
	if err := s.agent.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = s.agent.Process.Signal(syscall.SIGTERM)
		if err := s.agent.Wait(); err != nil {
			tb.Errorf("agent: %v", err)
		}
		if tb.Failed() {
			tb.Logf("agent:\n%s", said.String())
		}
	})
	testrun.Eventually(tb, func() error { return os.Chmod(s.socket, 0o666) })
}

// openFolder is a folder that everybody may write to.
func openFolder(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	for _, open := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(open, 0o777); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// small is one of the servers of server_test.go.
func small(what, name, addrs string) []string {
	return []string{"env", serving + "=1", program("small"), what, name, addrs}
}

// original starts a server in the target and waits until it listens on the ports.
func (s *stage) original(tb testing.TB, argv []string, ports ...int) *exec.Cmd {
	tb.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	testnet.NewCgroup(tb, "").Put(tb, cmd)
	s.net.Target.Start(tb, cmd)
	for _, port := range ports {
		testrun.Eventually(tb, func() error {
			c, err := dial(s.net.Target, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	return cmd
}

// session starts a command under magpie exec --steal, as a user without any right and on a machine without a way out, and
// waits until it has its claim.
func (s *stage) session(tb testing.TB, flags []string, argv ...string) *testrun.Program {
	tb.Helper()
	s.serve(tb)
	home := testnet.Lone(tb)
	args := []string{
		"--reuid", developerID, "--regid", developerID, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--",
		program("magpie"), "exec", "--agent", s.socket, "--target", "netns/" + s.net.Target.Name, "--steal",
	}
	cmd := exec.Command("setpriv", append(append(append(args, flags...), "--"), argv...)...)
	cmd.Dir = openFolder(tb)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "USER=dev", "LANG=C", "TMPDIR=" + cmd.Dir}
	p := testrun.Start(tb, cmd, func() error { return home.NS.Do(cmd.Start) })
	p.WaitFor(tb, "ready")
	return p
}

// header is the flags of a session that wants the requests with a header.
func header(line string) []string { return []string{"--http-header-filter", line} }

// at is a port of the target, as those see it who call.
func (s *stage) at(port int) string {
	return net.JoinHostPort(s.net.Target.Addr4.String(), strconv.Itoa(port))
}

// dial connects from inside a namespace.
func dial(from *testnet.Host, addr string) (c net.Conn, err error) {
	err = from.NS.Do(func() error {
		c, err = net.DialTimeout("tcp", addr, 5*time.Second)
		return err
	})
	return c, err
}

// start starts a program in the client's namespace.
func (s *stage) start(tb testing.TB, argv ...string) *testrun.Program {
	tb.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	return testrun.Start(tb, cmd, func() error { return s.net.Client.NS.Do(cmd.Start) })
}

// run runs a program in the client's namespace to its end and returns what it said.
func (s *stage) run(tb testing.TB, argv ...string) (said string, status int) {
	tb.Helper()
	p := s.start(tb, argv...)
	status = p.Status(tb)
	return p.Output(), status
}

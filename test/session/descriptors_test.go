package session

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// An agent that has run out of descriptors lets clients in again when it has some.
func TestTheDoorOutlivesAWantOfDescriptors(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	agent, socket := serveTarget(t, n)
	args := []string{"--agent", socket, "--target", "netns/" + n.Target.Name, "--steal", "--http-header-filter", "x-user: me"}
	first := startLocal(t, args, "http", ":8080")
	first.WaitFor(t, "ready")
	first.Stop(t)
	if err := unix.Prlimit(agent.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: 4096}, nil); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	time.Sleep(200 * time.Millisecond) // it shall have tried
	if err := unix.Prlimit(agent.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 4096, Max: 4096}, nil); err != nil {
		t.Fatal(err)
	}
	startLocal(t, args, "http", ":8080").WaitFor(t, "ready")
}

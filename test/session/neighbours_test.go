package session

import (
	"net"
	"strings"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// TestTwoSessionsOfOneMachineDoNotMixTheirPorts has two servers that use the same port, for two targets, and that
// reload all the time: the place of one on this machine is free in one moment and the other's in the next.
func TestTwoSessionsOfOneMachineDoNotMixTheirPorts(t *testing.T) {
	reloading := python(`
import select, random
say("I am %d" % os.getpid())
for i in range(150):
    l = server(8080)
    for j in range(random.randrange(3)):
        if select.select([l], [], [], 0.005)[0]:
            try: answer(l.accept()[0])
            except ConnectionError: pass
    l.close()
    time.sleep(random.random() / 200)
say("done")
`)
	var others [2]string
	var targets [2]*testnet.Net
	var sessions [2]*testrun.Program
	for i := range targets {
		targets[i] = testnet.New(t)
		startOriginal(t, targets[i], "http", ":8080")
		sessions[i] = startScript(t, targets[i], mine, reloading)
	}
	for i := range targets {
		_, others[1-i], _ = strings.Cut(sessions[i].WaitFor(t, "I am "), "I am ")
	}
	for i := range targets {
		addr := net.JoinHostPort(targets[i].Target.Addr4.String(), "8080")
		for answers := 0; answers < 300 && !strings.Contains(sessions[i].Output(), "done"); answers++ {
			a, err := get(targets[i].Client, addr, "/", "x-user: me")
			if err == nil && a.by == "local" && a.body == others[i] {
				t.Fatalf("a request to target %d was answered by the other session's process", i)
			}
		}
	}
}

// TestSharedPortsAreSharedWithinOneSessionOnly has servers with SO_REUSEPORT, as web servers with workers have them.
func TestSharedPortsAreSharedWithinOneSessionOnly(t *testing.T) {
	sharing := python(`
import threading
def shared():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("0.0.0.0", 8080))
    s.listen()
    while True:
        try: answer(s.accept()[0])
        except ConnectionError: pass
for i in range(2): threading.Thread(target=shared, daemon=True).start()
say("I am %d" % os.getpid())
time.sleep(60)
`)
	var targets [2]*testnet.Net
	for i := range targets {
		targets[i] = testnet.New(t)
		m := startScript(t, targets[i], mine, sharing)
		_, pid, _ := strings.Cut(m.WaitFor(t, "I am "), "I am ")
		m.WaitFor(t, "ready")
		defer func() {
			for range 30 {
				a := mustGet(t, targets[i].Client, net.JoinHostPort(targets[i].Target.Addr4.String(), "8080"), "/", "x-user: me")
				if a.by != "local" || a.body != pid {
					t.Errorf("target %d: answered by %s, process %s, not by %s", i, a.by, a.body, pid)
				}
			}
		}()
	}
}

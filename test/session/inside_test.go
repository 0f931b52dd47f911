package session

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// startNeighbour gives the target a DNS server that knows db.shop.test, and behind that name an HTTP server: both on
// the client's addresses, which the developer's machine has no route to.
func startNeighbour(tb testing.TB, n *testnet.Net) {
	tb.Helper()
	var dns net.PacketConn
	var web net.Listener
	n.Client.Do(tb, func() (err error) {
		if dns, err = net.ListenPacket("udp", net.JoinHostPort(n.Client.Addr4.String(), "53")); err != nil {
			return err
		}
		web, err = net.Listen("tcp", ":80")
		return err
	})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "%s to %s\n", r.Host, host)
	})}
	tb.Cleanup(func() { dns.Close(); server.Close() })
	go answerNames(dns, "db.shop.test.", n.Client.Addr4.As4())
	go server.Serve(web)

	// As ip-netns(8) has it: these files are the namespace's own.
	etc := filepath.Join("/etc/netns", n.Target.Name)
	if err := os.MkdirAll(etc, 0o755); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(etc); err != nil {
			tb.Error(err)
		}
		_ = os.Remove(filepath.Dir(etc)) // if nobody else has any
	})
	resolv := fmt.Sprintf("nameserver %s\nsearch shop.test\n", n.Client.Addr4)
	if err := os.WriteFile(filepath.Join(etc, "resolv.conf"), []byte(resolv), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// answerNames is a DNS server that knows one name with one address.
func answerNames(c net.PacketConn, name string, addr [4]byte) {
	b := make([]byte, 1500)
	for {
		size, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		var q dnsmessage.Message
		if err := q.Unpack(b[:size]); err != nil || len(q.Questions) != 1 {
			continue
		}
		a := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true}, Questions: q.Questions}
		switch asked := q.Questions[0]; {
		case !strings.EqualFold(asked.Name.String(), name):
			a.RCode = dnsmessage.RCodeNameError
		case asked.Type == dnsmessage.TypeA:
			a.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: asked.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 1},
				Body:   &dnsmessage.AResource{A: addr},
			}}
		}
		if packed, err := a.Pack(); err == nil {
			_, _ = c.WriteTo(packed, from)
		}
	}
}

func TestWhatTheLocalProcessDoesItDoesInTheTarget(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	startNeighbour(t, n)
	if out, err := exec.Command("ip", "-n", n.Target.Name, "route", "add", "unreachable", "203.0.113.0/24").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dev := withAgent(t)
	client := filepath.Join(programs, "client") // a static Go program
	target, neighbour := n.Target.Addr4.String(), n.Client.Addr4.String()
	quoted := regexp.QuoteMeta
	for _, c := range []struct{ name, script, says string }{
		{"curl, by name", "curl -sS http://db/", "^db to " + quoted(target) + "$"},
		{"curl, IPv6", "curl -sS -g 'http://[" + n.Client.Addr6.String() + "]/'", "to " + quoted(n.Target.Addr6.String()) + "$"},
		{"curl, the original", "curl -sS http://" + target + ":8080/", "^original GET /"},
		{"curl, refused", "curl -sSv http://db:81/", "Connection refused"},
		{"curl, no such name", "curl -sS http://nowhere.test/", "Could not resolve host"},
		{"Go, by name", client + " 'get http://db.shop.test/'", ": db.shop.test to " + quoted(target) + "$"},
		{"Go, lookup", client + " 'lookup db'", "^lookup db: " + quoted(neighbour) + "$"},
		{"Go, no such name", client + " 'lookup nowhere'", ": no such name$"},
		{"Go, refused", client + " 'connect " + neighbour + " 81'", ": ECONNREFUSED$"},
		{"Go, no route", client + " 'connect 203.0.113.1 81'", ": EHOSTUNREACH$"},
		{"Go, addresses", client + " 'connect " + neighbour + " 80'", ": ok from " + quoted(target) + `:\d+ to ` + quoted(neighbour) + ":80$"},
		{"C library", "getent hosts db", "^" + quoted(neighbour) + " "},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Its own words come last, and on stderr too.
			m := dev.exec(t, n, "--", "sh", "-c", c.script+" >\"$TMPDIR/said\" 2>&1")
			m.Status(t)
			said, err := os.ReadFile(filepath.Join(dev.temp, "said"))
			if err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile("(?m)" + c.says).Match(said) {
				t.Errorf("%s said %q, want %s", c.script, said, c.says)
			}
		})
	}
}

func TestTheEnvironmentIsTheTargets(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	original := small(t, "http", "original", ":8080")
	original.Env = append(original.Env, "DB_HOST=db.shop", "DB_SECRET=hidden", "LOG_LEVEL=warn", "HOME=/original", "LD_LIBRARY_PATH=/original")
	startIn(t, n, original, "8080")
	dev := withAgent(t)
	for _, c := range []struct {
		name  string
		flags []string
		want  map[string]string // empty: not there
	}{
		{"as it is", nil, map[string]string{"DB_HOST": "db.shop", "DB_SECRET": "hidden", "LOG_LEVEL": "warn", "HOME": "/nonexistent", "LD_LIBRARY_PATH": ""}},
		{"some", []string{"--env-include", "DB_*", "--env-exclude", "*_SECRET"}, map[string]string{"DB_HOST": "db.shop", "DB_SECRET": "", "LOG_LEVEL": ""}},
		{"set", []string{"--env", "LOG_LEVEL=debug", "--env", "MORE=a=b c"}, map[string]string{"LOG_LEVEL": "debug", "MORE": "a=b c", "DB_HOST": "db.shop"}},
		{"asked for", []string{"--env-include", "HOME"}, map[string]string{"HOME": "/original", "DB_HOST": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := dev.exec(t, n, append(c.flags, "--", "sh", "-c", "env >\"$TMPDIR/said\"")...)
			if got := m.Status(t); got != 0 {
				t.Fatalf("exit status %d", got)
			}
			said, err := os.ReadFile(filepath.Join(dev.temp, "said"))
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for line := range strings.Lines(string(said)) {
				key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
				got[key] = value
			}
			for key, want := range c.want {
				if got[key] != want {
					t.Errorf("%s is %q, want %q", key, got[key], want)
				}
			}
		})
	}
}

func TestTheExitStatusIsTheCommands(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	dev := withAgent(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3, "exit 125": 125, "kill -KILL $$": 128 + 9, "kill -SEGV $$": 128 + 11} {
		m := dev.exec(t, n, "--", "sh", "-c", script)
		if got := m.Status(t); got != want {
			t.Errorf("%s: exit status %d, want %d", script, got, want)
		}
	}
}

func TestSignalsReachTheCommand(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	dev := withAgent(t)
	const script = `trap 'echo got TERM; exit 7' TERM; trap 'echo got INT; exit 8' INT; echo signals, please; while :; do sleep 0.02; done`
	m := dev.exec(t, n, "--", "sh", "-c", script)
	m.WaitFor(t, "signals, please")
	if err := m.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.WaitFor(t, "got TERM")
	if got := m.Status(t); got != 7 {
		t.Errorf("after SIGTERM, exit status %d", got)
	}
	m = dev.exec(t, n, "--", "sh", "-c", script)
	m.WaitFor(t, "signals, please")
	m.Interrupt()
	m.WaitFor(t, "got INT")
	if got := m.Status(t); got != 8 {
		t.Errorf("after Ctrl-C, exit status %d", got)
	}
}

func TestStdinAndStdoutAreTheCommandsOwn(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	dev := withAgent(t)
	in := make([]byte, 5<<20)
	_, _ = rand.Read(in)
	cmd := dev.command(filepath.Join(programs, "magpie"), "exec", "--target", "netns/"+n.Target.Name, "--steal", "--", "cat")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout = bytes.NewReader(in), &out
	if err := dev.host.NS.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(out.Bytes()) != sha256.Sum256(in) {
		t.Errorf("%d bytes went in, %d others came out", len(in), out.Len())
	}
}

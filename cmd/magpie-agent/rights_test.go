package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/wire"
)

// place is a container in a pod as the runtimes lay it out, with an application that is not root, and an agent in a container of its own.
type place struct {
	target *testnet.Host
	pod    string // its cgroup
	id     string // the container's
	app    int    // the application's process
	agent  *exec.Cmd
	dial   func() (net.Conn, error)
}

// mustPlace starts the application.
func mustPlace(tb testing.TB) *place {
	tb.Helper()
	p := &place{target: testnet.New(tb).Target, id: fmt.Sprintf("%x", random(tb))}
	pod := mustMkdir(tb, testnet.NewCgroup(tb, "").Path, "kubepods-burstable-pod0d3f7a52_8c1e_4b6f_9a2d_5e7c1f3b9d84.slice")
	p.pod = pod.Path
	// As in a container of cgroup v2: a namespace of cgroups, and a mount of the own part of them.
	app := exec.Command("unshare", "-C", "-m", "sh", "-c", "mount -t cgroup2 none /sys/fs/cgroup && exec setpriv --reuid=65534 --regid=65534 "+
		"--clear-groups --bounding-set=-all --inh-caps=-all sleep 1000")
	app.Env = []string{"WHO=shop", "PATH=" + os.Getenv("PATH")}
	mustMkdir(tb, pod.Path, "cri-containerd-"+p.id+".scope").Put(tb, app)
	p.target.Start(tb, app)
	p.app = app.Process.Pid
	mustRun(tb, p.app, "sleep")
	return p
}

// mustBeJob starts an agent as the container of a Job: in namespaces of its own, but for that of processes.
func (p *place) mustBeJob(tb testing.TB, rights string, flags ...string) {
	tb.Helper()
	addr := mustFreePort(tb)
	p.dial = func() (net.Conn, error) { return net.Dial("tcp", addr) }
	p.agent = p.command(tb, rights, append(flags, "--target", "container/containerd://"+p.id, "--listen", "tcp:"+addr)...)
	testnet.NewCgroup(tb, "").Put(tb, p.agent)
	if err := p.agent.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = p.agent.Process.Signal(syscall.SIGTERM)
		if err := p.agent.Wait(); err != nil {
			tb.Errorf("agent: %v", err)
		}
	})
}

// mustBeEphemeral starts an agent as an ephemeral container: in the target's network namespace, with a cgroup in its pod.
func (p *place) mustBeEphemeral(tb testing.TB, rights string, flags ...string) {
	tb.Helper()
	socket := filepath.Join(tb.TempDir(), "agent.sock")
	p.dial = func() (net.Conn, error) { return net.Dial("unix", socket) }
	p.agent = p.command(tb, rights, append(flags, "--target", fmt.Sprint("pid/", p.app), "--listen", "unix:"+socket)...)
	mustMkdir(tb, p.pod, fmt.Sprintf("cri-containerd-%x.scope", random(tb))).Put(tb, p.agent)
	p.target.Start(tb, p.agent)
}

// command is the agent as it is shipped, with these capabilities and a cgroup namespace of its own.
func (p *place) command(tb testing.TB, rights string, args ...string) *exec.Cmd {
	tb.Helper()
	binary := filepath.Join(tb.TempDir(), "magpie-agent")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("unshare", append([]string{"-C", "setpriv", "--inh-caps=-all", "--bounding-set=-all," + rights,
		binary, "serve", "--termination-log", "", "--linger", "0"}, args...)...)
	cmd.Stderr = os.Stderr
	return cmd
}

func random(tb testing.TB) []byte {
	tb.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		tb.Fatal(err)
	}
	return b
}

func mustMkdir(tb testing.TB, parent, name string) *testnet.Cgroup {
	tb.Helper()
	g := &testnet.Cgroup{Path: filepath.Join(parent, name)}
	if err := os.Mkdir(g.Path, 0o755); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := unix.Rmdir(g.Path); err != nil {
			tb.Error(err)
		}
	})
	return g
}

// mustRun waits until a process runs a program.
func mustRun(tb testing.TB, pid int, program string) {
	tb.Helper()
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && string(name) == program+"\n" {
			return
		}
	}
	tb.Fatalf("%s does not start", program)
}

func mustFreePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// mustKnock waits for the agent and opens a carrier.
func (p *place) mustKnock(tb testing.TB) (*wire.Carrier, *wire.Caller) {
	tb.Helper()
	var conn net.Conn
	var err error
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
		if conn, err = p.dial(); err == nil {
			break
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	more := func(context.Context) (io.ReadWriteCloser, error) { return p.dial() }
	c := wire.Client(wire.NewBond(conn, more, 4))
	tb.Cleanup(func() { c.Close() })
	calls, err := c.Calls(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return c, calls
}

// threadRights returns the capabilities of each thread of a process, each once.
func threadRights(tb testing.TB, pid int) (rights []string) {
	tb.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(all) == 0 {
		tb.Fatalf("%v, %v", all, err)
	}
	for _, path := range all {
		status, err := os.ReadFile(path)
		if err != nil {
			continue // the thread ended
		}
		for line := range strings.Lines(string(status)) {
			for _, field := range []string{"CapPrm:", "CapEff:", "CapInh:", "NoNewPrivs:"} {
				if value, ok := strings.CutPrefix(line, field); ok {
					rights = append(rights, field+strings.TrimSpace(value))
				}
			}
		}
	}
	slices.Sort(rights)
	return slices.Compact(rights)
}

func TestAnAgentInItsPlaceHasGivenUpItsRightsAndWorks(t *testing.T) {
	testnet.RequireRoot(t)
	t.Run("job", func(t *testing.T) {
		p := mustPlace(t)
		p.mustBeJob(t, "+sys_admin,+sys_ptrace,+bpf")
		p.mustWork(t, "container/"+p.id, 1<<unix.CAP_BPF)
	})
	t.Run("ephemeral container", func(t *testing.T) {
		p := mustPlace(t)
		p.mustBeEphemeral(t, "+sys_ptrace,+net_admin,+bpf")
		p.mustWork(t, "", 1<<unix.CAP_BPF)
	})
}

// mustWork does what sessions do.
func (p *place) mustWork(t *testing.T, target string, kept uint64) {
	t.Helper()
	c, calls := p.mustKnock(t)
	hello, err := calls.Hello(t.Context(), &wire.HelloRequest{Target: target})
	if err != nil || !hello.Target.RestoresPeer || len(hello.Target.Missing) > 0 {
		t.Fatalf("%v, %v", hello, err)
	}
	p.mustHave(t, kept)

	env, err := calls.Environment(t.Context(), &wire.EnvironmentRequest{})
	if err != nil || !slices.ContainsFunc(env.GetVariables(), func(kv []byte) bool { return string(kv) == "WHO=shop" }) {
		t.Errorf("environment of another user's process: %v, %v", env, err)
	}
	if names, err := calls.Names(t.Context(), &wire.NamesRequest{}); err != nil || names.Hostname == "" || len(names.Hosts) == 0 {
		t.Errorf("names: %v, %v", names, err)
	}
	if _, err := calls.Inspect(t.Context(), &wire.InspectRequest{}); err != nil {
		t.Error(err)
	}
	claim, err := calls.Claim(t.Context(), &wire.ClaimRequest{Port: 80, Mode: wire.Mode_MODE_STEAL})
	if err != nil || claim.GetClaimed() == nil {
		t.Fatalf("claim: %v, %v", claim, err)
	}
	go func() {
		_ = p.target.NS.Do(func() error {
			conn, err := net.Dial("tcp", "127.0.0.1:80")
			if err == nil {
				defer conn.Close()
				_, err = io.WriteString(conn, "hello")
			}
			return err
		})
	}()
	in, err := c.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if open, err := in.Opening(); err != nil || open.GetIncoming().GetClaim() != claim.GetClaimed().Claim {
		t.Errorf("incoming: %v, %v", open, err)
	}
	if err := in.Accepted(netip.AddrPort{}); err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(in); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	in.Close()

	var l net.Listener
	p.target.Do(t, func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:0"); return err })
	defer l.Close()
	to := wire.AddressOf(l.Addr().(*net.TCPAddr).AddrPort())
	out, err := c.Open(t.Context(), &wire.Open{What: &wire.Open_Connect{Connect: &wire.Connect{Network: wire.Network_NETWORK_TCP, To: to}}})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Opened(t.Context()); err != nil {
		t.Errorf("connect in the target: %v", err)
	}
	if _, err := calls.Release(t.Context(), &wire.ReleaseRequest{Claim: claim.GetClaimed().Claim}); err != nil {
		t.Error(err)
	}
}

// mustHave sees to it that each thread of the agent has these capabilities and no other.
func (p *place) mustHave(tb testing.TB, capabilities uint64) {
	tb.Helper()
	want := []string{fmt.Sprintf("CapEff:%016x", capabilities), "CapInh:0000000000000000", fmt.Sprintf("CapPrm:%016x", capabilities), "NoNewPrivs:1"}
	if got := threadRights(tb, p.agent.Process.Pid); !slices.Equal(got, want) {
		tb.Errorf("the agent has %v; want %v", got, want)
	}
}

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/wire"
)

// waiting bounds every wait of these tests.
const waiting = 10 * time.Second

// A remoteAgent is one that clients reach over TCP, in this process.
type remoteAgent struct {
	*Agent
	addr   string
	leave  context.CancelFunc
	served chan error
}

func startRemote(tb testing.TB, target string) *remoteAgent {
	tb.Helper()
	a, err := New(Config{Target: target, Version: "test", Remote: true, Linger: -1, Node: "node-1"})
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, leave := context.WithCancel(context.Background())
	r := &remoteAgent{Agent: a, addr: l.Addr().String(), leave: leave, served: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.served <- a.Serve(ctx, l.(*net.TCPListener))
	}()
	tb.Cleanup(func() {
		leave()
		<-ended
		if err := a.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return r
}

// A peer is a client of a remote agent.
type peer struct {
	*wire.Carrier
	*wire.Caller
	pipe  io.Closer
	hello *wire.HelloResponse
}

// knock opens a carrier without a session.
func knock(tb testing.TB, addr string) *peer {
	tb.Helper()
	dial := func(context.Context) (io.ReadWriteCloser, error) { return net.Dial("tcp", addr) }
	first, err := dial(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	p := &peer{Carrier: wire.Client(wire.NewBond(first, dial, 3)), pipe: first}
	tb.Cleanup(func() { p.Carrier.Close() })
	if p.Caller, err = p.Calls(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return p
}

func greet(tb testing.TB, addr string, req *wire.HelloRequest) (*peer, error) {
	tb.Helper()
	p := knock(tb, addr)
	var err error
	p.hello, err = p.Hello(tb.Context(), req)
	return p, err
}

func mustGreet(tb testing.TB, addr string, req *wire.HelloRequest) *peer {
	tb.Helper()
	p, err := greet(tb, addr, req)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func as(user string) *wire.HelloRequest {
	return &wire.HelloRequest{Who: &wire.Who{User: user, Host: "laptop", Id: user + "-id"}}
}

// claim takes a whole port, and returns the conflict if somebody else has it.
func (p *peer) claim(tb testing.TB, port uint32) *wire.Conflict {
	tb.Helper()
	resp, err := p.Claim(tb.Context(), &wire.ClaimRequest{Port: port, Mode: wire.Mode_MODE_STEAL})
	if err != nil {
		tb.Fatal(err)
	}
	return resp.GetConflict()
}

// farewell waits for the agent's last word.
func (p *peer) farewell(tb testing.TB) *wire.Farewell {
	tb.Helper()
	s, err := p.Accept()
	if err != nil {
		tb.Fatalf("no farewell: %v", err)
	}
	defer s.Close()
	open, err := s.Opening()
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Accepted(netip.AddrPort{}); err != nil {
		tb.Error(err)
	}
	return open.GetFarewell()
}

func (p *peer) mustEnd(tb testing.TB) {
	tb.Helper()
	select {
	case <-p.Done():
	case <-time.After(waiting):
		tb.Error("the carrier is still there")
	}
}

func (r *remoteAgent) mustLeave(tb testing.TB, within time.Duration) {
	tb.Helper()
	select {
	case err := <-r.served:
		if err != nil {
			tb.Errorf("Serve: %v", err)
		}
	case <-time.After(within):
		tb.Errorf("the agent is here after %v", within)
	}
}

func lone(tb testing.TB) string { tb.Helper(); return "netns/" + testnet.Lone(tb).Name }

func TestWhoLeavesHoldsNothingWhenTheAnswerComes(t *testing.T) {
	r := startRemote(t, lone(t))
	ann, bob := mustGreet(t, r.addr, as("ann")), mustGreet(t, r.addr, as("bob"))
	for i := range 20 {
		if i > 0 {
			ann = mustGreet(t, r.addr, as("ann"))
		}
		if taken := ann.claim(t, 8080); taken != nil {
			t.Fatalf("%d: %v", i, taken)
		}
		if _, err := ann.Leave(t.Context(), &wire.LeaveRequest{}); err != nil {
			t.Fatal(err)
		}
		resp, err := bob.Claim(t.Context(), &wire.ClaimRequest{Port: 8080, Mode: wire.Mode_MODE_STEAL})
		if err != nil || resp.GetConflict() != nil {
			t.Fatalf("%d: %v, %v", i, resp, err)
		}
		if _, err := bob.Release(t.Context(), &wire.ReleaseRequest{Claim: resp.GetClaimed().Claim}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ann.Claim(t.Context(), &wire.ClaimRequest{Port: 8080, Mode: wire.Mode_MODE_STEAL}); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("a claim after Leave: %v; want ESTALE", err)
	}
	if _, err := greet(t, r.addr, &wire.HelloRequest{Session: ann.hello.Session}); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("back after Leave: %v; want ESTALE", err)
	}
}

func TestTheAgentLeavesAfterTheLastOne(t *testing.T) {
	r := startRemote(t, lone(t))
	p := mustGreet(t, r.addr, as("ann"))
	p.claim(t, 8080)
	if _, err := p.Leave(t.Context(), &wire.LeaveRequest{}); err != nil {
		t.Fatal(err)
	}
	p.Carrier.Close()
	r.mustLeave(t, 3*lastWait)
}

func TestALostSessionHoldsNothingAndMayComeBack(t *testing.T) {
	r := startRemote(t, lone(t))
	ann, bob := mustGreet(t, r.addr, as("ann")), mustGreet(t, r.addr, as("bob"))
	ann.claim(t, 8080)
	if bob.claim(t, 8080).GetHolder().GetName() != ann.hello.Name {
		t.Error("nobody holds the port")
	}
	ann.pipe.Close() // one pipe of the bond
	ann.mustEnd(t)
	for begin := time.Now(); bob.claim(t, 8080) != nil; {
		if time.Since(begin) > waiting {
			t.Fatal("a lost session holds its port")
		}
	}
	listed, err := bob.Sessions(t.Context(), &wire.SessionsRequest{})
	if err != nil || len(listed.Sessions) != 1 {
		t.Errorf("%v, %v; want bob's alone", listed, err)
	}
	if _, err := bob.Leave(t.Context(), &wire.LeaveRequest{}); err != nil {
		t.Fatal(err)
	}
	bob.Carrier.Close()
	select {
	case err := <-r.served:
		t.Fatalf("the agent left a session that may come back: %v", err)
	case <-time.After(2 * lastWait):
	}
	again := mustGreet(t, r.addr, &wire.HelloRequest{Session: ann.hello.Session})
	if again.hello.Name != ann.hello.Name {
		t.Errorf("%s came back as %s", ann.hello.Name, again.hello.Name)
	}
	if taken := again.claim(t, 8080); taken != nil {
		t.Errorf("claimed again: %v", taken)
	}
}

func TestSessionsAreStoppedByTheirID(t *testing.T) {
	r := startRemote(t, lone(t))
	ann, bob := mustGreet(t, r.addr, as("ann")), mustGreet(t, r.addr, as("bob"))
	ann.claim(t, 8080)
	bystander := knock(t, r.addr) // no session
	listed, err := bystander.Sessions(t.Context(), &wire.SessionsRequest{})
	if err != nil || len(listed.Sessions) != 2 || listed.Sessions[0].Who.Id != "ann-id" || listed.Sessions[0].Holdings[0].Port != 8080 {
		t.Fatalf("%v, %v", listed, err)
	}
	for id, want := range map[string]uint32{"nobody": 0, "": 0, "ann-id": 1} {
		resp, err := bystander.Stop(t.Context(), &wire.StopRequest{Id: id, Who: &wire.Who{User: "bob", Host: "desk"}})
		if err != nil || resp.Stopped != want {
			t.Errorf("%q: %v, %v; want %d", id, resp, err, want)
		}
	}
	if taken := bob.claim(t, 8080); taken != nil {
		t.Errorf("a stopped session holds its port: %v", taken)
	}
	last := ann.farewell(t)
	if !last.GetFinal() || last.Err() == nil || last.Err().Error() != "stopped by bob@desk" {
		t.Errorf("farewell: %v", last)
	}
	ann.mustEnd(t)
	if _, err := greet(t, r.addr, as("ann")); !errors.Is(err, syscall.ECANCELED) {
		t.Errorf("back again: %v; want ECANCELED", err)
	}
}

func TestAnAgentThatIsToldToLeaveSaysSo(t *testing.T) {
	r := startRemote(t, lone(t))
	p := mustGreet(t, r.addr, as("ann"))
	p.claim(t, 8080)
	r.leave()
	last := p.farewell(t)
	if last.GetFinal() || !errors.Is(last.Err(), syscall.ESHUTDOWN) || last.Err().Error() != "the agent leaves: it was told to" {
		t.Errorf("farewell: %v", last)
	}
	p.mustEnd(t)
	r.mustLeave(t, waiting)
}

// originalIn starts a process in the target's namespace that waits, and returns its id.
func originalIn(tb testing.TB, h *testnet.Host, env ...string) string {
	tb.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.Env = env
	h.Start(tb, cmd)
	return strconv.Itoa(cmd.Process.Pid)
}

func TestASessionSeesTheContainerThatItNames(t *testing.T) {
	h, elsewhere := testnet.Lone(t), testnet.Lone(t)
	shop, side := originalIn(t, h, "WHO=shop"), originalIn(t, h, "WHO=side")
	foreign := originalIn(t, elsewhere)
	r := startRemote(t, "pid/"+shop)
	for name, want := range map[string]string{"": "WHO=shop", "pid/" + shop: "WHO=shop", "pid/" + side: "WHO=side", "netns/" + h.Name: "WHO=shop"} {
		for range 2 {
			p := mustGreet(t, r.addr, &wire.HelloRequest{Target: name})
			env, err := p.Environment(t.Context(), &wire.EnvironmentRequest{})
			if err != nil || !slices.ContainsFunc(env.Variables, func(kv []byte) bool { return bytes.Equal(kv, []byte(want)) }) {
				t.Errorf("%q: %v, %v; want %s", name, env, err, want)
			}
		}
	}
	_, err := greet(t, r.addr, &wire.HelloRequest{Target: "pid/" + foreign})
	if !errors.Is(err, syscall.EINVAL) || wire.AsError(err).Advice == "" {
		t.Errorf("a target in another namespace: %v", err)
	}
	if _, err := greet(t, r.addr, &wire.HelloRequest{Target: "pid/1x"}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("no target at all: %v", err)
	}
}

func TestInspectNeedsNoSession(t *testing.T) {
	h := testnet.Lone(t)
	h.Do(t, func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	resp, err := knock(t, startRemote(t, "netns/"+h.Name).addr).Inspect(t.Context(), &wire.InspectRequest{})
	if err != nil || resp.Kernel == "" || resp.Node != "node-1" || resp.Version != "test" {
		t.Fatalf("%v, %v", resp, err)
	}
	for _, f := range resp.Features {
		if !f.Present && f.Cause == "" {
			t.Errorf("%s is missing without a cause", f.Name)
		}
	}
	if !slices.ContainsFunc(resp.Features, func(f *wire.Feature) bool { return f.Name == "redirect" && f.Present }) {
		t.Errorf("no redirect: %v", resp.Features)
	}
}

func TestWithoutATargetEverythingButClaimsWorks(t *testing.T) {
	r := startRemote(t, "none")
	p := mustGreet(t, r.addr, as("ann"))
	_, err := p.Claim(t.Context(), &wire.ClaimRequest{Port: 8080, Mode: wire.Mode_MODE_STEAL})
	if !errors.Is(err, syscall.EOPNOTSUPP) || wire.AsError(err).Advice == "" {
		t.Errorf("claim: %v; want EOPNOTSUPP with a hint", err)
	}
	if env, err := p.Environment(t.Context(), &wire.EnvironmentRequest{}); err != nil || len(env.Variables) != 0 {
		t.Errorf("environment: %v, %v", env, err)
	}
	names, err := p.Names(t.Context(), &wire.NamesRequest{})
	want, _ := os.ReadFile("/etc/hosts")
	if err != nil || !bytes.Equal(names.Hosts, want) {
		t.Errorf("names: %v, %v", names, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	s, err := p.Open(t.Context(), &wire.Open{What: &wire.Open_Connect{Connect: &wire.Connect{Network: wire.Network_NETWORK_TCP, To: wire.AddressOf(to)}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Opened(t.Context()); err != nil {
		t.Error(err)
	}
}

// frozenEnv makes this test program a client that claims a port and says so.
const frozenEnv = "MAGPIE_TEST_CLIENT"

func TestMain(m *testing.M) {
	if addr := os.Getenv(frozenEnv); addr != "" {
		os.Exit(beClient(addr))
	}
	goleak.VerifyTestMain(m)
}

func beClient(addr string) int {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c := wire.Client(wire.NewBond(conn, nil, 1))
	calls, err := c.Calls(context.Background())
	if err == nil {
		_, err = calls.Hello(context.Background(), as("frozen"))
	}
	if err == nil {
		_, err = calls.Claim(context.Background(), &wire.ClaimRequest{Port: 8080, Mode: wire.Mode_MODE_STEAL})
	}
	fmt.Println("claimed", err)
	<-c.Done()
	fmt.Println(c.Err())
	return 0
}

// A laptop that sleeps says nothing, and neither does a cable that was cut.
func TestASilentClientHoldsNothingAfter15Seconds(t *testing.T) {
	t.Parallel()
	r := startRemote(t, lone(t))
	client := exec.Command(os.Args[0])
	client.Env = append(os.Environ(), frozenEnv+"="+r.addr)
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer client.Wait()
	defer client.Process.Kill()
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil || !strings.HasPrefix(string(line[:n]), "claimed <nil>") {
		t.Fatalf("%q, %v", line[:n], err)
	}
	other := mustGreet(t, r.addr, as("ann"))
	if other.claim(t, 8080) == nil {
		t.Fatal("nobody holds the port")
	}
	if err := client.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for other.claim(t, 8080) != nil {
		if time.Since(begin) > 17*time.Second {
			t.Fatal("a silent client still holds its port")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := client.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil || !strings.Contains(string(rest), "agent") {
		t.Errorf("the client says %q, %v", rest, err)
	}
}

// A pod that is being deleted may still pass connections when the next agent comes.
func TestTheNextAgentDoesNotWaitForPassedConnections(t *testing.T) {
	h := testnet.Lone(t)
	var original net.Listener
	h.Do(t, func() (err error) { original, err = net.Listen("tcp", "127.0.0.1:8080"); return err })
	defer original.Close()
	target := "netns/" + h.Name
	r := startRemote(t, target)
	p := mustGreet(t, r.addr, as("ann"))
	if _, err := p.Claim(t.Context(), &wire.ClaimRequest{Port: 8080, Mode: wire.Mode_MODE_STEAL, Filter: `header("x-user: ann")`}); err != nil {
		t.Fatal(err)
	}
	var client net.Conn
	h.Do(t, func() (err error) { client, err = net.Dial("tcp", "127.0.0.1:8080"); return err })
	defer client.Close()
	passed, err := original.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer passed.Close()
	r.leave()
	p.farewell(t)
	p.mustEnd(t)

	begin := time.Now()
	next := startRemote(t, target)
	if waited := time.Since(begin); waited > 2*time.Second {
		t.Errorf("the next agent waited for %v", waited)
	}
	if taken := mustGreet(t, next.addr, as("ann")).claim(t, 8080); taken != nil {
		t.Error(taken)
	}
	if _, err := io.WriteString(client, "POST / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4)
	if _, err := io.ReadFull(passed, line); err != nil || string(line) != "POST" {
		t.Errorf("the passed connection: %q, %v", line, err)
	}
	client.Close()
	passed.Close()
	r.mustLeave(t, waiting)
}

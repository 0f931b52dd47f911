package agent

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/wire"
)

// atOnce is more than an agent takes that does not wait, and less than one that does.
const atOnce = lastWait / 2

// quit leaves for good, and returns whether the agent does, too.
func (p *peer) quit(tb testing.TB) (last bool) {
	tb.Helper()
	resp, err := p.Leave(tb.Context(), &wire.LeaveRequest{})
	if err != nil {
		tb.Fatal(err)
	}
	return resp.Last
}

func TestTheLastOneShutsTheDoor(t *testing.T) {
	r := startRemote(t, lone(t))
	ann, bob := mustGreet(t, r.addr, as("ann")), mustGreet(t, r.addr, as("bob"))
	if ann.quit(t) {
		t.Error("ann is not the last")
	}
	if !bob.quit(t) {
		t.Error("bob is the last: ann has said that she leaves")
	}
	if c, err := net.Dial("tcp", r.addr); err == nil {
		c.Close()
		t.Error("somebody was let in")
	}
	ann.Carrier.Close()
	bob.Carrier.Close()
	r.mustLeave(t, atOnce)
}

func TestWhoLooksOnIsNotLeftBehind(t *testing.T) {
	r := startRemote(t, lone(t))
	ann, other := mustGreet(t, r.addr, as("ann")), knock(t, r.addr)
	if _, err := other.Sessions(t.Context(), &wire.SessionsRequest{}); err != nil {
		t.Fatal(err)
	}
	if ann.quit(t) {
		t.Error("somebody else is there")
	}
	if _, err := other.Hello(t.Context(), as("other")); err != nil {
		t.Error(err)
	}
}

func TestOfTwoWhoLeaveAtOnceOneIsTheLast(t *testing.T) {
	target := lone(t)
	for range 10 {
		r := startRemote(t, target)
		peers := [2]*peer{mustGreet(t, r.addr, as("ann")), mustGreet(t, r.addr, as("bob"))}
		var last [2]bool
		var leaving sync.WaitGroup
		for i, p := range peers {
			leaving.Go(func() {
				last[i] = p.quit(t)
				p.Carrier.Close()
			})
		}
		leaving.Wait()
		if !last[0] && !last[1] {
			t.Error("nobody was the last")
		}
		r.mustLeave(t, atOnce)
	}
}

// Whoever comes in the moment in which the last one leaves is let in for good, or turned away.
func TestNobodyIsLetInAndThenLeftBehind(t *testing.T) {
	target := lone(t)
	var in, out int
	for i := range 24 {
		r := startRemote(t, target)
		ann := mustGreet(t, r.addr, as("ann"))
		came := make(chan error, 1)
		var bob *wire.Carrier
		var calls *wire.Caller
		go func() {
			pipe, err := net.Dial("tcp", r.addr)
			if err != nil {
				came <- err
				return
			}
			bob = wire.Client(wire.NewBond(pipe, nil, 1))
			if calls, err = bob.Calls(t.Context()); err == nil {
				_, err = calls.Hello(t.Context(), as("bob"))
			}
			came <- err
		}()
		time.Sleep(time.Duration(i) * 30 * time.Microsecond)
		last := ann.quit(t)
		ann.Carrier.Close()
		switch err := <-came; {
		case last && err == nil:
			t.Fatal("let in and left behind")
		case last:
			out++
			r.mustLeave(t, lastWait+atOnce)
		case err != nil:
			t.Fatalf("turned away, and the agent stays: %v", err)
		default:
			in++
			select {
			case <-bob.Done():
				t.Fatal("let in, and ended")
			case <-time.After(20 * time.Millisecond):
			}
			if resp, err := calls.Leave(t.Context(), &wire.LeaveRequest{}); err != nil || !resp.Last {
				t.Errorf("%v, %v", resp, err)
			}
			bob.Close()
			r.mustLeave(t, atOnce)
		}
		if bob != nil {
			bob.Close()
		}
	}
	t.Logf("%d were let in, %d turned away", in, out)
	if in == 0 || out == 0 {
		t.Error("only one of both was tested")
	}
}

func TestWhoComesTooLateIsToldToLookForTheNext(t *testing.T) {
	r := startRemote(t, lone(t))
	ann := mustGreet(t, r.addr, as("ann"))
	pipe, err := net.Dial("tcp", r.addr) // says nothing yet: nobody knows whose it is
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); r.pipes() < 2; time.Sleep(time.Millisecond) {
		if time.Since(begin) > waiting {
			t.Fatal("the pipe was not let in")
		}
	}
	if !ann.quit(t) {
		t.Fatal("ann is not the last")
	}
	bob := wire.Client(wire.NewBond(pipe, nil, 1))
	defer bob.Close()
	calls, err := bob.Calls(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := calls.Hello(t.Context(), as("bob")); !errors.Is(err, syscall.ESHUTDOWN) {
		t.Errorf("%v; want ESHUTDOWN", err)
	}
}

func (a *Agent) pipes() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.carriers
}

// pass opens a connection that passes through the agent, for ann who holds other requests, and says the first word on it.
func pass(tb testing.TB, h *testnet.Host, ann *peer, word string) (client, original net.Conn) {
	tb.Helper()
	var l net.Listener
	h.Do(tb, func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:8080"); return err })
	defer l.Close()
	if _, err := ann.Claim(tb.Context(), &wire.ClaimRequest{Port: 8080, Mode: wire.Mode_MODE_STEAL, Filter: `header("x-user: ann")`}); err != nil {
		tb.Fatal(err)
	}
	h.Do(tb, func() (err error) { client, err = net.Dial("tcp", "127.0.0.1:8080"); return err })
	tb.Cleanup(func() { client.Close() })
	original, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { original.Close() })
	mustCarry(tb, client, original, word)
	return client, original
}

func mustCarry(tb testing.TB, from, to net.Conn, text string) {
	tb.Helper()
	if _, err := io.WriteString(from, text); err != nil {
		tb.Fatal(err)
	}
	_ = to.SetReadDeadline(time.Now().Add(waiting))
	got := make([]byte, len(text))
	if n, err := io.ReadFull(to, got); err != nil || string(got) != text {
		tb.Fatalf("%q came as %q, %v", text, got[:n], err)
	}
}

func TestARawConnectionIsAReasonToStay(t *testing.T) {
	h := testnet.Lone(t)
	r := startRemote(t, "netns/"+h.Name)
	ann := mustGreet(t, r.addr, as("ann"))
	client, original := pass(t, h, ann, "\x00raw")
	if ann.quit(t) {
		t.Error("a raw connection would be cut")
	}
	ann.Carrier.Close()
	select {
	case <-r.served:
		t.Fatal("the agent has left")
	case <-time.After(2 * lastWait):
	}
	mustCarry(t, client, original, "more")
	mustCarry(t, original, client, "answer")
	mustGreet(t, r.addr, as("bob")).Carrier.Close() // may still come
	client.Close()
	original.Close()
}

func TestAPassedRequestIsAnsweredAfterTheLastOneHasLeft(t *testing.T) {
	h := testnet.Lone(t)
	r := startRemote(t, "netns/"+h.Name)
	ann := mustGreet(t, r.addr, as("ann"))
	const request, answer = "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
	client, original := pass(t, h, ann, request)
	mustCarry(t, original, client, answer)
	if !ann.quit(t) {
		t.Error("a connection that waits for a request can be let go")
	}
	ann.Carrier.Close()
	time.Sleep(2 * lastWait) // the agent has left but for this
	mustCarry(t, client, original, request)
	if _, err := io.WriteString(original, answer); err != nil {
		t.Fatal(err)
	}
	original.Close()
	_ = client.SetReadDeadline(time.Now().Add(waiting))
	if got, err := io.ReadAll(client); err != nil || !strings.Contains(string(got), "Connection: close") || !strings.HasSuffix(string(got), "x") {
		t.Errorf("the last answer: %q, %v", got, err)
	}
	client.Close()
	r.mustLeave(t, atOnce)
}

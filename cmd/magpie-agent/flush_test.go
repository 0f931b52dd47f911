package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/wire"
)

const (
	mayFlush    = 1<<unix.CAP_BPF | 1<<unix.CAP_NET_ADMIN
	mayNotFlush = 1 << unix.CAP_BPF
)

// TestAnAgentClosesOlderConnectionsOnlyIfItWasStartedForThat as a Job and in the pod: it keeps the right for it then, and no other.
func TestAnAgentClosesOlderConnectionsOnlyIfItWasStartedForThat(t *testing.T) {
	testnet.RequireRoot(t)
	for name, c := range map[string]struct {
		start func(t *testing.T, p *place)
		kept  uint64
	}{
		"job with":          {func(t *testing.T, p *place) { p.mustBeJob(t, "+sys_admin,+sys_ptrace,+bpf,+net_admin", "--flush") }, mayFlush},
		"job without":       {func(t *testing.T, p *place) { p.mustBeJob(t, "+sys_admin,+sys_ptrace,+bpf") }, mayNotFlush},
		"ephemeral with":    {func(t *testing.T, p *place) { p.mustBeEphemeral(t, "+sys_ptrace,+net_admin,+bpf", "--flush") }, mayFlush},
		"ephemeral without": {func(t *testing.T, p *place) { p.mustBeEphemeral(t, "+sys_ptrace,+net_admin,+bpf") }, mayNotFlush},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustPlace(t)
			older := p.mustBeOlder(t)
			c.start(t, p)
			_, calls := p.mustKnock(t)
			if _, err := calls.Hello(t.Context(), &wire.HelloRequest{}); err != nil {
				t.Fatal(err)
			}
			p.mustHave(t, c.kept)
			resp, err := calls.Claim(t.Context(), &wire.ClaimRequest{Port: 80, Mode: wire.Mode_MODE_STEAL, Flush: true})
			if c.kept == mayFlush {
				if err != nil || resp.GetClaimed().GetOlder() != 1 {
					t.Fatalf("claim: %v, %v", resp, err)
				}
				older.mustEnd(t)
				return
			}
			var hinted interface{ Hint() string }
			if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") || !errors.As(err, &hinted) || hinted.Hint() == "" {
				t.Errorf("claim: %v, %v; want it refused with a hint", resp, err)
			}
			// What was refused has touched nothing, and the port can be claimed without.
			resp, err = calls.Claim(t.Context(), &wire.ClaimRequest{Port: 80, Mode: wire.Mode_MODE_STEAL})
			if err != nil || resp.GetClaimed().GetOlder() != 1 {
				t.Errorf("claim: %v, %v", resp, err)
			}
			older.mustLive(t)
		})
	}
}

// An older connection leads to a server in the target that sends back what it hears.
type older struct{ net.Conn }

// mustBeOlder opens one.
func (p *place) mustBeOlder(tb testing.TB) older {
	tb.Helper()
	server := exec.Command("python3", "-c", `
import socket
l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.bind(("127.0.0.1", 80)); l.listen(); print("ready", flush=True)
c, _ = l.accept()
while b := c.recv(100): c.sendall(b)`)
	out, err := server.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	p.target.Start(tb, server)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		tb.Fatalf("%q, %v", line, err)
	}
	var c net.Conn
	p.target.Do(tb, func() (err error) { c, err = net.Dial("tcp", "127.0.0.1:80"); return err })
	tb.Cleanup(func() { c.Close() })
	o := older{c}
	o.mustLive(tb)
	return o
}

func (o older) mustLive(tb testing.TB) {
	tb.Helper()
	_ = o.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, len("hello"))
	if _, err := fmt.Fprint(o, "hello"); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.ReadFull(o, b); err != nil || string(b) != "hello" {
		tb.Fatalf("%q, %v", b, err)
	}
}

func (o older) mustEnd(tb testing.TB) {
	tb.Helper()
	_ = o.SetDeadline(time.Now().Add(20 * time.Second)) // a client that may wait for an answer is let wait for some seconds
	if _, err := o.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		tb.Errorf("it ended with %v; want %v", err, unix.ECONNRESET)
	}
}

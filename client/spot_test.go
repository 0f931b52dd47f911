package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/wire"
)

// spot is a place with a real agent, which a test starts and ends as it likes: a replica without a cluster.
type spot struct {
	name, socket string
	net          *testnet.Net
	agent        *exec.Cmd
	remote       bool          // the agent takes bonds and remembers sessions, as in a cluster
	prepared     chan struct{} // closed when its requests may be claimed; nil: they may
	shut         atomic.Bool   // for sessions, as if the network were down

	mu     sync.Mutex
	cables []*cable
}

// A cable is a pipe that can be cut so that only we notice.
type cable struct {
	net.Conn
	cut atomic.Bool
}

func (c *cable) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cut.Load() {
		return 0, syscall.ECONNRESET
	}
	return n, err
}

func (c *cable) Close() error {
	if c.cut.Load() {
		return nil
	}
	return c.Conn.Close()
}

func (p *spot) String() string { return p.name }
func (p *spot) leave(bool)     {}

func (p *spot) ready() <-chan struct{} {
	if p.prepared == nil {
		return closed()
	}
	return p.prepared
}

func (p *spot) lost(why error) (error, bool) { return why, false }

func (p *spot) enter(ctx context.Context) (io.ReadWriteCloser, string, error) {
	if p.shut.Load() {
		return nil, "", syscall.ENETDOWN
	}
	pipe, err := p.open(ctx)
	return pipe, "", err
}

func (p *spot) open(ctx context.Context) (io.ReadWriteCloser, error) {
	pipe, err := p.dial(ctx)
	if err != nil || !p.remote {
		return pipe, err
	}
	return wire.NewBond(pipe, p.dial, 3), nil
}

func (p *spot) dial(ctx context.Context) (io.ReadWriteCloser, error) {
	pipe, err := (&net.Dialer{}).DialContext(ctx, "unix", p.socket)
	if err != nil {
		return nil, err
	}
	c := &cable{Conn: pipe}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cables = append(p.cables, c)
	return c, nil
}

// cut cuts all cables. The agent hears nothing of it.
func (p *spot) cut(tb testing.TB) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.cables {
		c.cut.Store(true)
		_ = c.SetDeadline(time.Unix(1, 0))
		tb.Cleanup(func() { c.Conn.Close() })
	}
	p.cables = nil
}

// newSpot makes a replica: its network, its original, and an agent.
func newSpot(tb testing.TB, name string) *spot {
	tb.Helper()
	return newSpotOf(tb, &spot{name: name})
}

func newRemoteSpot(tb testing.TB, name string) *spot {
	tb.Helper()
	return newSpotOf(tb, &spot{name: name, remote: true})
}

func newSpotOf(tb testing.TB, p *spot) *spot {
	tb.Helper()
	name := p.name
	p.socket, p.net = filepath.Join(tb.TempDir(), "s"), testnet.New(tb)
	answer(tb, p.net.Target, "original", 8080)
	answer(tb, p.net.Client, "neighbour of "+name, 80)
	p.start(tb)
	return p
}

// start starts the agent; it is killed with the test, or by it.
func (p *spot) start(tb testing.TB) {
	tb.Helper()
	os.Remove(p.socket)
	agent := exec.Command(program, "serve", "--target", "netns/"+p.net.Target.Name, "--socket", p.socket)
	if p.remote {
		agent.Args = append(agent.Args[:4], "--listen", "unix:"+p.socket)
	}
	said := &lines{}
	agent.Stderr = said
	if err := agent.Start(); err != nil {
		tb.Fatal(err)
	}
	p.agent = agent
	tb.Cleanup(func() {
		p.kill(agent)
		if tb.Failed() {
			tb.Logf("agent of %s:\n%s", p.name, said)
		}
	})
	eventually(tb, func() error {
		pipe, _, err := p.enter(tb.Context())
		if err == nil {
			err = pipe.Close()
		}
		return err
	})
}

// kill gives the agent no time for anything.
func (p *spot) kill(agent *exec.Cmd) {
	_ = agent.Process.Kill()
	_ = agent.Wait()
}

func (p *spot) signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := p.agent.Process.Signal(sig); err != nil {
		tb.Fatal(err)
	}
}

func (p *spot) pipe(tb testing.TB) io.ReadWriteCloser {
	tb.Helper()
	pipe, err := p.open(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return pipe
}

// sessions counts those that the agent has.
func (p *spot) sessions(tb testing.TB) int {
	tb.Helper()
	running, err := Sessions(tb.Context(), p.pipe(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return len(running)
}

// ask sends a request to the replica's target, over a connection of its own.
func (p *spot) ask(header string) (string, error) {
	addr := net.JoinHostPort(p.net.Target.Addr4.String(), "8080")
	return p.net.Client.Get("http://"+addr+"/"+p.name, header)
}

// expect asks with our header, until it is answered by whom it should.
func (p *spot) expect(tb testing.TB, by string) {
	tb.Helper()
	eventually(tb, func() error { return p.answers("x-user: me", by) })
}

// must asks once.
func (p *spot) must(tb testing.TB, header, by string) {
	tb.Helper()
	if err := p.answers(header, by); err != nil {
		tb.Error(err)
	}
}

func (p *spot) answers(header, by string) error {
	got, err := p.ask(header)
	if err == nil && got != by {
		err = fmt.Errorf("%q at %s was answered by %q, not by %q", header, p.name, got, by)
	}
	return err
}

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/filters"
	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/wire"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// program is the built agent.
var program string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "magpie-client-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, agentProgram)
	build := exec.Command("go", "build", "-o", program, "../cmd/magpie-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// spot is a place with a real agent, which a test starts and ends as it likes: a replica without a cluster.
type spot struct {
	name, socket string
	net          *testnet.Net
	agent        *exec.Cmd
	remote       bool        // the agent takes bonds and remembers sessions, as in a cluster
	shut         atomic.Bool // for sessions, as if the network were down

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
func (p *spot) leave() error   { return nil }

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

// ask sends a request to the replica's target, over a connection of its own.
func (p *spot) ask(header string) (string, error) {
	from, addr := p.net.Client, net.JoinHostPort(p.net.Target.Addr4.String(), "8080")
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, addr string) (c net.Conn, err error) {
		err = from.NS.Do(func() error { c, err = net.DialTimeout(network, addr, patience); return err })
		return c, err
	}}
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/"+p.name, nil)
	if err != nil {
		return "", err
	}
	if name, value, ok := strings.Cut(header, ": "); ok {
		req.Header.Set(name, value)
	}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
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

// answer serves who answers on a port of the host.
func answer(tb testing.TB, host *testnet.Host, who string, port int) {
	tb.Helper()
	host.Do(tb, func() error {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		serve(tb, l, who)
		return nil
	})
}

func serve(tb testing.TB, l net.Listener, who string) {
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, who) })}
	go func() { _ = server.Serve(l) }()
	tb.Cleanup(func() { server.Close() })
}

// listener is a claim as net/http wants it.
type listener struct{ *Claim }

func (l listener) Addr() net.Addr { return &net.TCPAddr{Port: int(l.Port)} }

func (l listener) Accept() (net.Conn, error) {
	in, err := l.Claim.Accept()
	if err != nil {
		return nil, err
	}
	return in, in.Accepted()
}

// field is a ground whose places a test changes.
type field struct {
	mu      sync.Mutex
	now     []place
	changed chan struct{}
	fallow  error // why there will never be a place again
}

func newField(spots ...*spot) *field {
	f := &field{changed: make(chan struct{})}
	f.set(nil, spots...)
	return f
}

func (f *field) set(fallow error, spots ...*spot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now, f.fallow = nil, fallow
	for _, p := range spots {
		f.now = append(f.now, p)
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *field) state() ([]place, error, chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.now), f.fallow, f.changed
}

func (f *field) places(context.Context) ([]place, error) {
	now, fallow, _ := f.state()
	return now, fallow
}

func (f *field) watch(ctx context.Context, seen func([]place)) error {
	for {
		now, fallow, changed := f.state()
		if fallow != nil {
			return fallow
		}
		seen(now)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin opens a session on the field, with the steps it says.
func begin(tb testing.TB, f *field, command string) (*Session, *lines) {
	tb.Helper()
	said := &lines{}
	s, err := open(tb.Context(), Config{Target: "deploy/shop", Version: "devel", Command: []string{command}, Step: said.step}, f)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.Close()
		if tb.Failed() {
			tb.Logf("session %s said:\n%s", command, said)
		}
	})
	return s, said
}

// claim serves what comes with our header.
func claim(tb testing.TB, s *Session, who string) *Claim {
	tb.Helper()
	c, err := s.Claim(tb.Context(), 8080, mine(tb))
	if err != nil {
		tb.Fatal(err)
	}
	serve(tb, listener{c}, who)
	return c
}

func mine(tb testing.TB) *filters.Filter {
	tb.Helper()
	f, err := filters.Header("x-user: me")
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// lines is what was said. Safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) step(what, detail string) { fmt.Fprintf(l, "%-8s %s\n", what, detail) }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// has waits for a line that begins with what and contains the detail.
func (l *lines) has(tb testing.TB, what, detail string) {
	tb.Helper()
	eventually(tb, func() error {
		if !slices.ContainsFunc(strings.Split(l.String(), "\n"), func(line string) bool {
			return strings.HasPrefix(line, what+" ") && strings.Contains(line, detail)
		}) {
			return fmt.Errorf("no %q with %q was said:\n%s", what, detail, l)
		}
		return nil
	})
}

func eventually(tb testing.TB, try func() error) {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal(err)
		}
	}
}

var errGone = errors.New("deploy/shop is gone")

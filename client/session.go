// Package client brings a session to an agent: it finds or starts the agent beside the target, and offers what the
// agent can do there. It never runs anything on behalf of the local process and never prints.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// helloTimeout bounds how long a pipe may take to show that an agent is at its other end. A peer that says nothing at
// all is given up by the carrier, which knows more, a little earlier.
const helloTimeout = 11 * time.Second

// Config says which session to open. Target is required unless Socket names an agent that runs.
type Config struct {
	Target  string        // KIND/NAME
	Socket  string        // unix socket of an agent; empty: it is found or started
	Linger  time.Duration // of an agent that is started for this session
	Version string        // Magpie's
	Command []string      // what the session is for, for colleagues to read

	// Step is told of each thing done, for the user to see. Nil is fine.
	Step func(what, detail string)
}

// A Session is what one magpie exec has of an agent. It is safe for concurrent use; close it.
type Session struct {
	cfg     Config
	carrier *wire.Carrier
	calls   *wire.Caller
	hello   *wire.HelloResponse
	taken   atomic.Int64 // connections that came for the local process

	done  chan struct{} // closed when the session is over
	fail  sync.Once
	cause error // set before done is closed

	mu     sync.Mutex
	claims map[uint64]*Claim
	asking int                       // claims whose answer is still on its way
	early  map[uint64][]*wire.Stream // their connections, which may be faster than the answer
}

// Open finds or starts the agent of the target and opens a session.
func Open(ctx context.Context, cfg Config) (*Session, error) {
	if cfg.Step == nil {
		cfg.Step = func(string, string) {}
	}
	pipe, err := openPipe(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Session{
		cfg: cfg, carrier: wire.Client(pipe), done: make(chan struct{}),
		claims: map[uint64]*Claim{}, early: map[uint64][]*wire.Stream{},
	}
	if err := s.greet(ctx); err != nil {
		err = s.notGreeted(err)
		s.Close()
		return nil, err
	}
	go s.serve()
	return s, nil
}

func openPipe(ctx context.Context, cfg Config) (net.Conn, error) {
	if cfg.Socket == "" {
		return enter(ctx, cfg.Target, cfg.Linger)
	}
	pipe, err := (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket)
	if err != nil {
		e := wire.AsError(fmt.Errorf("agent: %w", err))
		e.Advice = "is an agent serving there? Without --agent, magpie finds or starts one"
		return nil, e
	}
	return pipe, nil
}

// greet says Hello and hears who is there.
func (s *Session) greet(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	if s.calls, err = s.carrier.Calls(ctx); err != nil {
		return err
	}
	s.hello, err = s.calls.Hello(ctx, &wire.HelloRequest{Version: s.cfg.Version, Who: self(s.cfg.Command)})
	if err != nil {
		return err
	}
	s.cfg.Step("agent", fmt.Sprintf("stands beside %s, process %d", s.hello.Target.GetName(), s.hello.AgentPid))
	for _, m := range s.hello.Target.GetMissing() {
		s.cfg.Step("without", strings.Join([]string{m.Feature + ": " + m.Cause, m.Hint}, "; "))
	}
	return nil
}

// self tells colleagues whose session this is. Under sudo that is whoever called sudo.
func self(command []string) *wire.Who {
	who := &wire.Who{Pid: uint32(os.Getpid()), Command: strings.Join(command, " ")}
	who.Host, _ = os.Hostname()
	who.User = os.Getenv("SUDO_USER")
	if u, err := user.Current(); who.User == "" && err == nil {
		who.User = u.Username
	}
	return who
}

// Name is what colleagues see of the session.
func (s *Session) Name() string { return s.hello.Name }

// Done is closed when the session is over: closed, or lost.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why the session was lost; nil while it is not, or after Close.
func (s *Session) Err() error {
	select {
	case <-s.done:
		return s.cause
	default:
		return nil
	}
}

// Close ends the session: its claims go, and what they took is passed to the original again.
func (s *Session) Close() error {
	s.end(nil)
	if s.calls != nil {
		s.calls.Close()
	}
	return s.carrier.Close()
}

func (s *Session) end(cause error) {
	s.fail.Do(func() {
		s.cause = cause
		close(s.done)
	})
}

// serve takes the streams that the agent opens, until the carrier is over, and then ends the claims.
func (s *Session) serve() {
	for {
		stream, err := s.carrier.Accept()
		if err != nil {
			s.end(s.explain(err))
			s.endClaims()
			return
		}
		go s.incoming(stream)
	}
}

// incoming brings a connection to its claim.
func (s *Session) incoming(stream *wire.Stream) {
	open, err := stream.Opening()
	if err != nil {
		return // refused and closed
	}
	in := open.GetIncoming()
	if in == nil {
		_ = stream.Refuse(&wire.Error{Errno: syscall.EOPNOTSUPP, Cause: fmt.Sprintf("an agent cannot open %T", open.What)})
		return
	}
	s.taken.Add(1)
	s.mu.Lock()
	claim := s.claims[in.Claim]
	if claim == nil && s.asking > 0 && len(s.early[in.Claim]) < maxWaiting {
		s.early[in.Claim] = append(s.early[in.Claim], stream)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	if claim == nil {
		_ = stream.Refuse(syscall.ECONNREFUSED)
		return
	}
	claim.offer(stream)
}

func (s *Session) endClaims() {
	s.mu.Lock()
	claims := s.claims
	s.claims = map[uint64]*Claim{}
	s.mu.Unlock()
	for _, c := range claims {
		c.end()
	}
}

// Tally says how much came for the local process.
func (s *Session) Tally() string {
	if n := s.taken.Load(); n != 1 {
		return fmt.Sprintf("%d connections", n)
	}
	return "1 connection"
}

// Environment returns the variables of the original, NAME=value.
func (s *Session) Environment(ctx context.Context) ([]string, error) {
	resp, err := s.calls.Environment(ctx, &wire.EnvironmentRequest{})
	if err != nil {
		return nil, s.explain(err)
	}
	env := make([]string, 0, len(resp.Variables))
	for _, kv := range resp.Variables {
		env = append(env, string(kv))
	}
	return env, nil
}

// Names are the files by which the target resolves names, as it sees them.
type Names struct {
	ResolvConf, Hosts, Nsswitch []byte
	Hostname                    string
}

// Names asks the agent for them.
func (s *Session) Names(ctx context.Context) (Names, error) {
	resp, err := s.calls.Names(ctx, &wire.NamesRequest{})
	if err != nil {
		return Names{}, s.explain(err)
	}
	return Names{ResolvConf: resp.ResolvConf, Hosts: resp.Hosts, Nsswitch: resp.NsswitchConf, Hostname: resp.Hostname}, nil
}

// A Conn is a connection in the target: one that the local process made, or one that came for it.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Dial connects from the target; network is tcp or udp. Its errors carry the errno that the target got. With udp,
// one Write or Read is one datagram.
func (s *Session) Dial(ctx context.Context, network string, to netip.AddrPort) (Conn, error) {
	connect := &wire.Connect{Network: wire.Network_NETWORK_TCP, To: wire.AddressOf(to)}
	if network == "udp" {
		connect.Network = wire.Network_NETWORK_UDP
	}
	stream, err := s.carrier.Open(ctx, &wire.Open{What: &wire.Open_Connect{Connect: connect}})
	if err != nil {
		return nil, err
	}
	if err := stream.Opened(ctx); err != nil {
		stream.Close()
		return nil, err
	}
	if network == "udp" {
		return datagrams{wire.NewDatagrams(stream), stream}, nil
	}
	return stream, nil
}

// datagrams is a Conn whose writes are datagrams.
type datagrams struct {
	*wire.Datagrams
	stream *wire.Stream
}

func (d datagrams) CloseWrite() error { return d.stream.CloseWrite() }

// An Exchange is a request that was routed on one of the session's ports, and its answer.
type Exchange struct {
	Session  string // who answered; empty: the original
	Client   netip.AddrPort
	Method   string
	Path     string
	Status   int
	Duration time.Duration
	Lost     int // exchanges before this one that came too fast to be told
}

// Watch tells of each exchange on the ports that are claimed from now on, until ctx or the session ends.
func (s *Session) Watch(ctx context.Context, told func(Exchange)) (wait func() error, err error) {
	stream, err := s.carrier.Open(ctx, &wire.Open{What: &wire.Open_Watch{Watch: &wire.Watch{}}})
	if err != nil {
		return nil, err
	}
	if err := stream.Opened(ctx); err != nil {
		stream.Close()
		return nil, err
	}
	return func() error {
		defer stream.Close()
		defer context.AfterFunc(ctx, func() { stream.Close() })()
		return follow(stream, told)
	}, nil
}

func follow(stream *wire.Stream, told func(Exchange)) error {
	for {
		e, err := stream.Receive()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		client, err := e.Client.AddrPort()
		if err != nil {
			return err
		}
		told(Exchange{
			Session: e.Session, Client: client, Method: string(e.Method), Path: string(e.Path), Status: int(e.Status),
			Duration: time.Duration(e.DurationMicros) * time.Microsecond, Lost: int(e.Lost),
		})
	}
}

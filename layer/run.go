//go:build linux && (amd64 || arm64)

package layer

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

const (
	// killGrace is how long the process has to end by itself when the session ends before it.
	killGrace = 2 * time.Second

	// catchUpGrace is far more than a signal to ourselves takes.
	catchUpGrace = time.Second

	// flushGrace is how long what the process has sent may take to go out after its end. The kernel would go on longer,
	// but the developer waits for a prompt.
	flushGrace = 5 * time.Second
)

// Run runs the process in the pod until it and all its descendants have ended, and returns its exit status: 128+n if
// signal n ended it. An error that is fs.ErrNotExist or fs.ErrPermission says that the command could not be executed;
// with any other error too the process has not run, or its end is not known. When ctx ends, so do the processes.
//
// The terminal sends its signals to the process itself; SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are passed on. Once the
// process has ended and only descendants are left, a signal ends them.
func Run(ctx context.Context, cfg Config, pod Pod) (exit int, err error) {
	if len(cfg.Args) == 0 {
		return 0, errors.New("run a process in the pod: no command given")
	}
	path, err := find(cfg.Args[0])
	if err != nil {
		return 0, err
	}
	signals := cfg.Signals
	if signals == nil {
		caught, stop := catchSignals()
		defer stop()
		signals = caught
	}
	s, err := newSupervisor(ctx, cfg, pod)
	if err != nil {
		return 0, err
	}
	defer s.close()
	p, err := unotify.Start(unotify.Command{Path: path, Args: cfg.Args, Env: cfg.Env, Dir: cfg.Dir,
		Stdin: cfg.Stdin, Stdout: cfg.Stdout, Stderr: cfg.Stderr, Early: func() syscall.Signal { return waiting(signals) }}, s.allRules())
	var killed *unotify.SignalError
	if errors.As(err, &killed) {
		return 128 + int(killed.Signal), nil
	}
	if err != nil {
		return 0, err
	}
	defer p.Close()
	return s.run(ctx, p, signals)
}

// waiting returns a signal that was sent to us before now, 0 if none was.
func waiting(signals <-chan os.Signal) syscall.Signal {
	catchUp()
	select {
	case sig := <-signals:
		return sig.(syscall.Signal)
	default:
		return 0
	}
}

// catchUp returns when what was sent to us before is in the channels of those who wait for it: on a busy machine that takes a
// while. Of signals that wait, the kernel delivers the one with the lowest number first (signal(7)), and Go does likewise; so a
// signal of our own with a high number comes last.
func catchUp() {
	last := make(chan os.Signal, 1)
	signal.Notify(last, unix.SIGWINCH)
	defer signal.Stop(last)
	if unix.Kill(os.Getpid(), unix.SIGWINCH) != nil {
		return
	}
	select {
	case <-last:
	case <-time.After(catchUpGrace):
	}
}

// find looks a command up as a shell does. A name with a slash is seen from the folder of the process.
func find(command string) (string, error) {
	if strings.Contains(command, "/") {
		return command, nil
	}
	path, err := exec.LookPath(command)
	if errors.Is(err, exec.ErrNotFound) {
		return "", &fs.PathError{Op: "exec", Path: command, Err: fs.ErrNotExist}
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// session is a supervisor and what ends with it.
type session struct {
	*supervisor
	end  context.CancelFunc
	work sync.WaitGroup
}

func newSupervisor(ctx context.Context, cfg Config, pod Pod) (_ *session, err error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // the processes end first, then this
	s := &session{end: end, supervisor: &supervisor{
		pod: pod, log: log, sockets: map[uint64]*record{}, names: map[pair]pair{}, here: map[uint64]pair{},
		ports: map[portKey]uint16{}, claims: map[uint16]*claim{}, released: map[uint16]<-chan struct{}{}, claimed: make(chan struct{}, 1), crowded: make(chan struct{}, 1),
		life: func() (context.Context, context.CancelFunc) { return context.WithCancel(life) },
	}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.holes, err = newBlackholes(); err != nil {
		return nil, err
	}
	if s.overlay, err = newOverlay(cfg.Files); err != nil {
		return nil, err
	}
	s.datagrams = newDatagrams(func(to netip.AddrPort) (Conn, error) { return pod.Dial(life, "udp", to) }, log)
	return s, nil
}

func (s *session) allRules() []unotify.Rule {
	return append(append(s.rules(), s.datagrams.rules()...), s.overlay.rules()...)
}

// close ends everything that belongs to the session. The processes are gone by then.
func (s *session) close() {
	s.end()
	s.work.Wait()
	s.relays.Wait()
	if s.datagrams != nil {
		s.datagrams.close()
	}
	if s.overlay != nil {
		s.overlay.close()
	}
	if s.holes != nil {
		s.holes.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for cookie, r := range s.sockets {
		s.lockedDrop(cookie, r)
	}
}

// run serves the processes until they have ended.
func (s *session) run(ctx context.Context, p *unotify.Process, signals <-chan os.Signal) (int, error) {
	t := tree{p.Descendants}
	s.holds = t.holds
	life, end := s.life()
	defer end()
	s.work.Go(func() { s.watchListeners(life) })
	s.work.Go(func() { s.sweepSockets(life, t) })
	serving := table(s.calls(), s.datagrams.calls(), s.overlay.calls())
	s.work.Go(func() {
		if err := p.Serve(serving); err != nil {
			s.log.Error("cannot serve the process any more", "err", err)
			p.Close()
		}
	})
	ended, left := make(chan struct{}), make(chan struct{})
	s.work.Go(func() { s.pass(ctx, p, signals, ended, left) })

	status, err := p.Wait()
	close(ended)
	if err == nil {
		err = p.Gone()
	}
	close(left)
	if closed := p.Close(); err == nil {
		err = closed
	}
	s.flush()
	if ctx.Err() != nil && err != nil {
		err = ctx.Err()
	}
	return exitStatus(status), err
}

// pass passes signals on, and ends the processes when the session ends.
func (s *session) pass(ctx context.Context, p *unotify.Process, signals <-chan os.Signal, ended, left <-chan struct{}) {
	over := ctx.Done()
	var kill <-chan time.Time
	for {
		select {
		case <-left:
			return
		case <-over:
			over = nil
			_ = p.Signal(unix.SIGTERM)
			kill = time.After(killGrace)
		case <-kill:
			p.Close()
			return
		case sig := <-signals:
			select {
			case <-ended:
				p.Close()
				return
			default:
			}
			if sig != unix.SIGINT && sig != unix.SIGQUIT { // The process has had those from the terminal.
				_ = p.Signal(sig.(syscall.Signal))
			}
		}
	}
}

// flush waits until what the processes have sent is with the pod.
func (s *session) flush() {
	done := make(chan struct{})
	go func() {
		s.uploads.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(flushGrace):
		s.log.Warn("some of what the process sent may not have reached the pod")
	}
}

// Signals are those that Run wants to know of.
func Signals() []os.Signal {
	return []os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2}
}

// catchSignals keeps us alive when the terminal signals the whole process group. It catches and does not ignore, because
// what is ignored stays ignored in the process; and it leaves alone what was ignored before us (nohup).
func catchSignals() (<-chan os.Signal, func()) {
	ch := make(chan os.Signal, 16)
	for _, sig := range Signals() {
		if !signal.Ignored(sig) {
			signal.Notify(ch, sig)
		}
	}
	return ch, func() { signal.Stop(ch) }
}

func exitStatus(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

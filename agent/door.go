package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/wire"
)

// Dir is where agents on this host have their doors, locks and logs. Only root may enter: whoever can become root
// here may steal here, nobody else.
const Dir = "/run/magpie"

// startTimeout bounds how long a new agent may take until it can be talked to.
const startTimeout = 20 * time.Second

// A Door is the unix socket by which clients on this host come to the one agent of a target. Its name is the
// identity of the target's network namespace, so that all who mean the same target meet the same agent, whatever
// they called it.
type Door struct{ path string }

// DoorOf returns the door of the target with this key. Nothing needs to be there yet.
func DoorOf(key string) Door { return Door{filepath.Join(Dir, key)} }

func (d Door) socket() string { return d.path + ".sock" }
func (d Door) log() string    { return d.path + ".log" }

// lock keeps others from opening or closing the door until unlock is called. The kernel unlocks for the dead.
func (d Door) lock() (unlock func(), err error) { return d.lockBy(unix.LOCK_EX) }

func (d Door) lockBy(how int) (unlock func(), err error) {
	if err := os.MkdirAll(Dir, 0o700); err != nil {
		return nil, err
	}
	for {
		f, err := os.OpenFile(d.path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock(f, how); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if current(f) {
			return func() { f.Close() }, nil
		}
		f.Close() // whoever had it took the file away: it locks nobody out any more
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// current reports whether the file is still the one that its name means.
func current(f *os.File) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(ours, named)
}

// clear takes away all that marks the door. The lock must be held.
func (d Door) clear() {
	for _, mark := range []string{d.socket(), d.log(), d.path + ".lock"} {
		_ = os.Remove(mark)
	}
}

// sweep clears the doors of agents that were killed: whoever comes here next tidies up.
func sweep() {
	sockets, _ := filepath.Glob(filepath.Join(Dir, "*.sock"))
	for _, socket := range sockets {
		d := Door{strings.TrimSuffix(socket, ".sock")}
		unlock, err := d.lockBy(unix.LOCK_EX | unix.LOCK_NB)
		if err != nil {
			continue // somebody is just coming or going
		}
		if pipe, err := d.dial(); err == nil {
			pipe.Close()
		} else if errors.Is(err, unix.ECONNREFUSED) {
			d.clear()
		}
		unlock()
	}
}

// Enter returns a pipe to the agent behind the door and starts the agent first if there is none: the command
// start, with the listening socket as descriptor 3 and a pipe for its first word (see Report) as descriptor 4.
func (d Door) Enter(ctx context.Context, start *exec.Cmd) (*os.File, error) {
	sweep()
	unlock, err := d.lock()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	defer unlock()
	if pipe, err := d.dial(); err == nil {
		return pipe, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if err := d.open(ctx, start); err != nil {
		return nil, err
	}
	return d.dial()
}

func (d Door) dial() (*os.File, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: d.socket(), Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.File()
}

// open starts the agent. The socket listens before the agent runs, so a client may knock at once.
func (d Door) open(ctx context.Context, start *exec.Cmd) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.socket(), Net: "unix"})
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	if err := d.spawn(ctx, start, l); err != nil {
		d.clear() // the door leads nowhere
		return err
	}
	return nil
}

func (d Door) spawn(ctx context.Context, start *exec.Cmd, l *net.UnixListener) error {
	log, err := os.OpenFile(d.log(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer log.Close()
	socket, err := l.File()
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer socket.Close()
	first, word, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer first.Close()
	start.Dir, start.Stdout, start.Stderr = "/", log, log
	start.ExtraFiles = []*os.File{socket, word}
	start.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = start.Start()
	word.Close()
	if err != nil {
		return fmt.Errorf("agent: start: %w", err)
	}
	// It is nobody's child when we exit, which is soon.
	defer func() { _ = start.Process.Release() }()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(startTimeout)
	}
	_ = first.SetReadDeadline(deadline)
	return hear(first, d.log())
}

// Report writes the first word of a starting agent: that it serves (nil) or why it cannot.
func Report(to io.Writer, err error) error {
	var word wire.Error
	if err != nil {
		word = *wire.AsError(err)
	}
	return json.NewEncoder(to).Encode(word)
}

func hear(from io.Reader, log string) error {
	line, err := bufio.NewReader(io.LimitReader(from, 4<<10)).ReadBytes('\n')
	if err != nil {
		return &wire.Error{Cause: fmt.Sprintf("agent: ended while it started: %v", err), Advice: "its log is " + log}
	}
	var word wire.Error
	if err := json.Unmarshal(line, &word); err != nil {
		return &wire.Error{Cause: fmt.Sprintf("agent: said %q when it started", line), Advice: "its log is " + log}
	}
	if word.Cause != "" {
		return &word
	}
	return nil
}

// leave closes the door from inside, unless somebody is just coming in: then it reports false.
func (d Door) leave(l Listener) bool {
	unlock, err := d.lock()
	if err != nil {
		return false
	}
	defer unlock() // nobody can connect before that
	if !closeUnlessKnocked(l) {
		return false
	}
	d.clear()
	return true
}

// closeUnlessKnocked reports whether it closed the listener.
func closeUnlessKnocked(l Listener) bool {
	raw, err := l.SyscallConn()
	return err == nil && !knocked(raw) && l.Close() == nil
}

// abandon takes the door away from an agent that ends, whoever may be coming in.
func (d Door) abandon() {
	unlock, err := d.lock()
	if err != nil {
		return
	}
	defer unlock()
	d.clear()
}

// knocked reports whether a connection waits to be accepted.
func knocked(raw syscall.RawConn) (yes bool) {
	err := raw.Control(func(fd uintptr) { yes = readable(fd) })
	return yes && err == nil
}

func readable(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}

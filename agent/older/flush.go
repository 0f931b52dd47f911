package older

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/netns"
)

// pace is how gently connections are closed.
type pace struct {
	every    time.Duration // one is closed this often, so that not all clients come back at once
	quiet    time.Duration // no byte for this long, either way: nothing goes over it
	answer   time.Duration // the same unless the original spoke last: the client may wait for an answer that takes its time
	patience time.Duration // busy ones are given up after this
}

// gentle is the pace of all who do not test it. Nobody is let wait for ever for a port that is busy, and a thousand clients come back within two minutes.
var gentle = pace{every: time.Second / 10, quiet: 200 * time.Millisecond, answer: 5 * time.Second, patience: 30 * time.Second}

// An Outcome tells what became of older connections.
type Outcome struct {
	Closed int // by us
	Ended  int // by themselves, meanwhile
	Stayed int // open: something went over them all the time, or ctx ended
}

// MayFlush fails when connections cannot be closed, for want of a right or of a kernel that can. It finds out with a socket of its own.
func MayFlush(ctx context.Context, ns *netns.NS) error {
	d, err := openDiag(ns)
	if err == nil {
		defer d.close()
		err = d.tryDestroy(ctx, ns)
	}
	if err != nil {
		return refused("close older connections", err)
	}
	return nil
}

// Flush closes the connections that Find saw, one by one, the one that is idle for longest first, each when nothing goes over it. It returns when none is
// left but busy ones, or when ctx ends. To the client it is a connection that breaks between two requests: it opens another, which is the claim's.
// A request that sets out at that very moment is lost, as when a server restarts. Nothing is closed if it fails at once, see MayFlush.
func (c *Connections) Flush(ctx context.Context) (Outcome, error) {
	if err := MayFlush(ctx, c.ns); err != nil {
		return Outcome{Stayed: len(c.all)}, err
	}
	d, err := openDiag(c.ns)
	if err != nil {
		return Outcome{Stayed: len(c.all)}, refused(fmt.Sprintf("close older connections to port %d", c.port), err)
	}
	defer d.close()
	f := &flush{Connections: c, diag: d, older: map[uint64]bool{}}
	for _, one := range c.all {
		f.older[one.Cookie] = true
	}
	f.left = len(c.all)
	err = f.run(ctx)
	o := Outcome{Closed: f.closed, Ended: len(f.older) - f.closed - f.left, Stayed: f.left}
	if err != nil && ctx.Err() == nil {
		err = refused(fmt.Sprintf("close older connections to port %d", c.port), err)
	}
	return o, err
}

type flush struct {
	*Connections
	*diag
	older  map[uint64]bool // all that were older, by cookie
	closed int
	left   int // were open when we looked last, and not closed since
}

func (f *flush) run(ctx context.Context) error {
	for begin := time.Now(); ; {
		looked := time.Now()
		open, undecided, err := f.lookAgain(ctx)
		if err != nil {
			return err
		}
		pause := f.pace.pause(time.Since(looked))
		closed, err := f.closeIdle(ctx, open)
		switch {
		case err != nil:
			return err
		case f.left == 0 && undecided == 0, closed == 0 && time.Since(begin) > f.pace.patience:
			return nil
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// pause is between looks, which shall not take more than a tenth of a processor.
func (p pace) pause(look time.Duration) time.Duration { return max(p.quiet, 9*look) }

// lookAgain returns what is open still, the one that is idle for longest first, and how many may turn out to belong to it.
func (f *flush) lookAgain(ctx context.Context) (open []*socket, undecided int, err error) {
	v, err := f.look(ctx, f.port)
	if err != nil {
		return nil, 0, err
	}
	for _, s := range v.older {
		if f.known[s.cookie()] {
			f.older[s.cookie()] = true
			open = append(open, s)
		}
	}
	for cookie := range v.open {
		if f.known[cookie] {
			undecided++
		}
	}
	slices.SortFunc(open, func(a, b *socket) int { return cmp.Compare(b.idle(), a.idle()) })
	f.left = len(open)
	return open, undecided, nil
}

// closeIdle closes those over which nothing goes.
func (f *flush) closeIdle(ctx context.Context, open []*socket) (closed int, err error) {
	for _, s := range open {
		if !f.pace.idle(s) {
			continue
		}
		now, err := f.again(ctx, s)
		switch {
		case errors.Is(err, unix.ENOENT):
			f.left--
			continue
		case err != nil:
			return closed, err
		case !f.pace.idle(&now):
			continue
		}
		// The client's next connection is ours from here. That it is closed must be counted, whatever ends meanwhile.
		if err := f.destroy(context.WithoutCancel(ctx), s); err != nil && !errors.Is(err, unix.ENOENT) {
			return closed, err
		}
		closed++
		f.closed++
		f.left--
		if err := sleep(ctx, f.pace.every); err != nil {
			return closed, err
		}
	}
	return closed, nil
}

// idle reports whether nothing goes over a connection, as far as one can tell from outside.
func (p pace) idle(s *socket) bool {
	enough := p.quiet
	if s.received <= s.sent { // the kernel counts in ticks of up to 10 ms
		enough = p.answer
	}
	return s.state == unix.BPF_TCP_ESTABLISHED && s.unread == 0 && s.unsent == 0 && s.idle() >= enough
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// triesToDestroy bounds the search for a port that is nobody's: one that is claimed, but where nobody listens, leads to another socket.
const triesToDestroy = 3

// tryDestroy ends a socket of our own, which listens where nobody knows of it: the kernel asks for the right when it has found the socket, not before.
func (d *diag) tryDestroy(ctx context.Context, ns *netns.NS) (err error) {
	for range triesToDestroy {
		if err = d.destroyOwn(ctx, ns); !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return err
}

func (d *diag) destroyOwn(ctx context.Context, ns *netns.NS) error {
	var fd int
	err := ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	s, err := listenAside(fd)
	if err != nil {
		return err
	}
	return d.destroy(ctx, s)
}

// listenAside lets a socket listen on a port that the kernel chooses, even where lo is down, and returns what the kernel calls it.
func listenAside(fd int) (*socket, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	at := bound.(*unix.SockaddrInet4)
	s := &socket{answer: answer{family: unix.AF_INET}}
	copy(s.id.local[:], at.Addr[:])
	binary.BigEndian.PutUint16(s.id.localPort[:], uint16(at.Port))
	s.id.cookie = [2]uint32{uint32(cookie), uint32(cookie >> 32)}
	return s, nil
}

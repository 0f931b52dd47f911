//go:build linux && (amd64 || arm64)

package layer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

// attemptWatch is how often we look whether somebody still waits for a connection that takes long: nothing tells when the
// program closes a socket of which we have a duplicate.
const attemptWatch = 100 * time.Millisecond

// errGone cancels an attempt whose socket the program has closed or taken back.
var errGone = errors.New("the program has given the connection up")

// attempt is one connect(2), from the call until the program has been told how it ended.
type attempt struct {
	cookie uint64
	local  netip.AddrPort // of the program's socket
	hole   netip.AddrPort
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when errno and native are set

	mu      sync.Mutex // held while the outcome is put on the socket or told
	begun   bool       // the program knows that it must wait: it has had EINPROGRESS, or waits in the call
	errno   syscall.Errno
	native  bool // the kernel knows the outcome: the socket is not in our hands any more
	settled bool
	told    bool
	over    bool // the next connect begins anew
}

// attempt begins to connect the socket, of which it takes the duplicate; hint is where the program has it.
func (s *supervisor) attempt(k *socket, to netip.AddrPort, hint string) (*attempt, syscall.Errno) {
	a := &attempt{cookie: k.cookie, done: make(chan struct{}), begun: !k.nonblocking()}
	var errno syscall.Errno
	if a.hole, errno = s.holes.aim(k.needsV6(), k.connect); errno != unix.EINPROGRESS {
		k.close()
		if errno == 0 {
			errno = unix.ECONNABORTED // no blackhole lets anybody in
		}
		return nil, errno
	}
	a.local = sockname(k.fd)
	s.mu.Lock()
	full := len(s.sockets) >= maxSockets
	s.mu.Unlock()
	if full {
		k.abort()
		k.close()
		return nil, unix.ENOBUFS
	}
	life, end := s.life()
	ctx, cancel := context.WithCancelCause(life)
	a.cancel = cancel
	s.mu.Lock()
	s.lockedRecord(k).attempt = a
	s.mu.Unlock()
	s.attempts.Add(1)
	s.relays.Go(func() {
		defer end()
		defer cancel(nil)
		s.carryOut(ctx, a, k, to, hint)
	})
	return a, 0
}

// needsV6 reports whether the socket can only connect to IPv6 addresses.
func (k *socket) needsV6() bool {
	if k.family != unix.AF_INET6 {
		return false
	}
	own := sockname(k.fd).Addr()
	return k.v6only() || own.Is6() && !own.IsUnspecified()
}

// carryOut connects from the pod, puts the outcome on the program's socket and relays until both sides are done.
func (s *supervisor) carryOut(ctx context.Context, a *attempt, k *socket, to netip.AddrPort, hint string) {
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watchAttempt(ctx, a, k, hint)
	}()
	real, seen := pair{a.local, a.hole}, pair{}
	conn, err := s.pod.Dial(ctx, "tcp", to)
	var app *net.TCPConn
	if err == nil {
		seen = pair{addrPort(conn.LocalAddr()), to}
		s.setNames(real, seen)
		if app, err = meet(a.hole, a.local); err != nil {
			conn.Close()
			err = fmt.Errorf("%w: %w", errGone, err)
		}
	}
	gone := context.Cause(ctx)
	a.cancel(nil)
	<-watched // it looks at our duplicate
	s.settle(a, k, err, errors.Is(gone, errGone) || errors.Is(err, errGone))
	k.close()
	if err != nil {
		s.dropNames(real, seen)
		s.log.Debug("connect", "remote", to, "err", err)
		return
	}
	s.log.Debug("connected", "remote", to)
	s.join(app, conn)
	s.dropNames(real, seen)
	a.mu.Lock()
	defer a.mu.Unlock()
	s.lockedForgetAttempt(a)
}

// settle puts the outcome on the socket.
func (s *supervisor) settle(a *attempt, k *socket, err error, gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer close(a.done)
	a.settled = true
	switch {
	case err == nil:
	case a.native || gone:
		a.native = true
		s.lockedForgetAttempt(a)
	default:
		a.errno = podErrno(err)
		k.fail()
	}
}

// watchAttempt cancels the attempt when the program's socket stops connecting: closed, shut down, or timed out by the
// kernel, which gives up after the program's own TCP_SYNCNT or TCP_USER_TIMEOUT.
func (s *supervisor) watchAttempt(ctx context.Context, a *attempt, k *socket, hint string) {
	tick := time.NewTicker(attemptWatch)
	defer tick.Stop()
	inode := k.inode()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if state := k.state(); state != unix.BPF_TCP_SYN_SENT && state != unix.BPF_TCP_ESTABLISHED || !s.holds(inode, hint) {
			a.cancel(errGone)
			return
		}
	}
}

// await tells a program that waits in connect(2), for as long as its SO_SNDTIMEO says. It takes the duplicate.
func (s *supervisor) await(c *unotify.Call, k *socket, a *attempt) {
	var late <-chan time.Time
	if d := k.patience(unix.SO_SNDTIMEO); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-a.done:
		a.mu.Lock()
		defer a.mu.Unlock()
		s.lockedTell(c, k, a)
	case <-late:
		k.close()
		c.Answer(unotify.Fail(unix.EINPROGRESS))
	}
}

// lockedTell gives the outcome to a connect(2), and only if the call got it counts it as told: a restarted one asks again.
// It takes the duplicate.
func (s *supervisor) lockedTell(c *unotify.Call, k *socket, a *attempt) {
	if a.errno != 0 {
		k.renew()
		k.close()
		if c.Answer(unotify.Fail(a.errno)) {
			s.lockedForgetAttempt(a)
		}
		return
	}
	errno := k.collect(a.hole) // The kernel's socket learns that it is connected; if it does not, that is the answer.
	k.close()
	switch {
	case a.native || a.told:
		c.Answer(unotify.Fail(errno))
		if errno != unix.EISCONN {
			s.lockedForgetAttempt(a)
		}
	case c.Answer(unotify.Return(0)):
		s.lockedTold(a)
	}
}

// collect makes the kernel tell how the socket's attempt ended, without beginning a new one.
func (k *socket) collect(hole netip.AddrPort) syscall.Errno {
	errno := k.connect(hole)
	if errno == unix.EINPROGRESS {
		k.abort()
		return unix.ECONNABORTED
	}
	return errno
}

// lockedTold counts the outcome as told.
func (s *supervisor) lockedTold(a *attempt) {
	if a.told {
		return
	}
	a.told = true
	s.attempts.Add(-1)
}

// lockedForgetAttempt ends what we know of an attempt. The program's next connect begins a new one.
func (s *supervisor) lockedForgetAttempt(a *attempt) {
	if !a.told {
		a.told = true
		s.attempts.Add(-1)
	}
	a.over = true
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.sockets[a.cookie]; r != nil && r.attempt == a {
		r.attempt = nil
		s.lockedForget(a.cookie)
	}
}

// podErrno is the errno of an error of the pod, if connect(2) or listen(2) can give it; else ENETUNREACH. What went wrong
// between us and the pod (ENOENT, EPIPE and the like) would only confuse.
func podErrno(err error) syscall.Errno {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return unix.ENETUNREACH
	}
	switch errno {
	case unix.ECONNREFUSED, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ECONNRESET, unix.ECONNABORTED, unix.EADDRINUSE,
		unix.EADDRNOTAVAIL, unix.EACCES, unix.EPERM, unix.EINVAL, unix.ENETDOWN, unix.EHOSTDOWN, unix.EAFNOSUPPORT, unix.ENOBUFS, unix.ENOMEM:
		return errno
	}
	return unix.ENETUNREACH
}

//go:build linux && (amd64 || arm64)

package layer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

// maxDeliveries bounds connections on their way into the backlog of the program, for each claim.
const maxDeliveries = 1024

// claim is a port of the pod that the program listens on, with one socket or several.
type claim struct {
	port       uint16
	cancel     context.CancelFunc
	ready      chan struct{} // closed when listener or errno is set
	listener   Listener
	errno      syscall.Errno
	deliveries chan struct{}
	before     <-chan struct{} // closed when the claim that had the port before is gone; nil if there was none
	gone       chan struct{}

	sockets map[uint64]place // by inode; guarded by supervisor.mu
}

// place is where a listening socket lies, and whom it serves.
type place struct {
	real netip.AddrPort
	binding
}

// listen answers listen(2): the claim is made inside the call, so that its errno is the call's.
func (s *supervisor) listen(c *unotify.Call) unotify.Verdict {
	if s.bound.Load() == 0 {
		return unotify.Continue()
	}
	k, err := look(c)
	if err != nil {
		return unotify.Continue()
	}
	r := s.record(k.cookie)
	if !k.tcp() || r == nil || !r.bound.at.IsValid() {
		k.close()
		return unotify.Continue()
	}
	if r.bound.at.Port() == 0 { // the pod's address, any port: a listener for this host only
		defer k.close()
		if errno := k.bind(netip.AddrPortFrom(loopbacks[familyIndex(r.bound.at)], 0)); errno != 0 {
			return unotify.Fail(errno)
		}
		return unotify.Continue()
	}
	if err := unix.Listen(k.fd, int(int32(c.Args[1]))); err != nil {
		k.close()
		return unotify.Fail(errnoOf(err))
	}
	cl := s.claimFor(k, r.bound)
	select {
	case <-cl.ready:
		defer k.close()
		return s.listening(k, cl)
	default:
	}
	s.relays.Go(func() {
		<-cl.ready
		v := s.listening(k, cl)
		k.close() // before the program goes on: it may close its own and bind anew
		c.Answer(v)
	})
	return unotify.Later()
}

// listening is the verdict on listen(2) when the claim is decided. A socket that may not listen does not.
func (s *supervisor) listening(k *socket, cl *claim) unotify.Verdict {
	if cl.errno == 0 {
		return unotify.Return(0)
	}
	_ = unix.Shutdown(k.fd, unix.SHUT_RDWR)
	return unotify.Fail(cl.errno)
}

// claimFor adds the listening socket to the claim of its port, which it makes if there is none.
func (s *supervisor) claimFor(k *socket, b binding) *claim {
	p := place{sockname(k.fd), b}
	s.mu.Lock()
	defer s.mu.Unlock()
	cl := s.claims[b.at.Port()]
	if cl == nil {
		cl = &claim{port: b.at.Port(), ready: make(chan struct{}), deliveries: make(chan struct{}, maxDeliveries), sockets: map[uint64]place{}}
		cl.before, cl.gone = s.released[cl.port], make(chan struct{})
		s.claims[cl.port], s.released[cl.port] = cl, cl.gone
		ctx, cancel := s.life()
		cl.cancel = cancel
		s.relays.Go(func() { s.serveClaim(ctx, cl) })
	}
	cl.sockets[k.inode()] = p
	select {
	case s.claimed <- struct{}{}:
	default:
	}
	return cl
}

// serveClaim makes the claim and hands its connections to the program until it ends.
func (s *supervisor) serveClaim(ctx context.Context, cl *claim) {
	defer close(cl.gone)
	defer cl.cancel()
	if cl.before != nil {
		<-cl.before // else a program that closes its socket and listens anew would be in its own way
	}
	l, err := s.pod.Listen(ctx, cl.port)
	if err != nil {
		cl.errno = podErrno(err)
		s.endClaim(cl)
		close(cl.ready)
		s.log.Debug("listen", "port", cl.port, "err", err)
		return
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	cl.listener = l
	close(cl.ready)
	s.log.Debug("listening", "port", cl.port)
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn("the claim was lost", "port", cl.port, "err", err)
			}
			s.endClaim(cl)
			return
		}
		cl.deliveries <- struct{}{}
		s.relays.Go(func() { s.deliver(cl, conn) })
	}
}

func (s *supervisor) endClaim(cl *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims[cl.port] == cl {
		delete(s.claims, cl.port)
	}
}

// deliver connects a client of the pod to the program, through the kernel's own backlog: so the program is woken the way
// it always is.
func (s *supervisor) deliver(cl *claim, conn Conn) {
	client, dialled := addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr())
	seen := pair{dialled, client}
	app, real, err := s.enter(cl, seen)
	<-cl.deliveries
	if err != nil {
		s.log.Debug("deliver", "port", cl.port, "remote", client, "err", err)
		refuse(conn, errnoOf(err))
		s.dropListeners()
		return
	}
	s.join(app, conn)
	s.dropNames(real, seen)
}

// enter connects to a socket of the claim. The names are known before the program can accept.
//
// Whoever listens at the place may not be our program any more: another session's, say, which has the same port and
// took the place when ours let go of it. So we look before, in order not to disturb it, and again after: a place has one
// listener at a time, and if it was ours after the connection was made, the connection is ours.
func (s *supervisor) enter(cl *claim, seen pair) (*net.TCPConn, pair, error) {
	to, ok := s.placeFor(cl, seen.peer)
	if !ok {
		return nil, pair{}, unix.ECONNREFUSED // it listens for the other family only
	}
	fd, err := boundAnywhere(familyIndex(to))
	if err != nil {
		return nil, pair{}, err
	}
	if !s.listensAt(cl, to) {
		unix.Close(fd)
		return nil, pair{}, unix.ECONNREFUSED
	}
	real := pair{to, sockname(fd)}
	s.setNames(real, seen)
	app, err := connectSocket(fd, to)
	if err == nil && !s.listensAt(cl, to) && !s.tookOver(real) {
		breakOff(app)
		err = unix.ECONNREFUSED
	}
	if err != nil {
		s.dropNames(real, seen)
		return nil, pair{}, err
	}
	return app, real, nil
}

// boundAnywhere makes a socket with a port of its own; when the ports of 127.0.0.1 are used up, those of its neighbours.
func boundAnywhere(f int) (fd int, err error) {
	for n := range byte(maxHoles) {
		at := loopbacks[f]
		if f == 0 {
			at = netip.AddrFrom4([4]byte{127, 0, 0, 1 + n})
		}
		if fd, err = boundSocket(netip.AddrPortFrom(at, 0), nil); f != 0 || !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return fd, err
}

// placeFor finds a socket of the claim that serves the client.
func (s *supervisor) placeFor(cl *claim, client netip.AddrPort) (netip.AddrPort, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range cl.sockets {
		if client.Addr().Is4() && p.v4 || client.Addr().Is6() && p.v6 {
			return p.real, true
		}
	}
	return netip.AddrPort{}, false
}

// listenerAt finds where a port of this host lies in truth; false if that is where it seems.
func (s *supervisor) listenerAt(to netip.AddrPort) (netip.AddrPort, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cl := s.claims[to.Port()]
	if cl == nil {
		return to, false
	}
	for _, p := range cl.sockets {
		if to.Addr().Is4() && p.v4 || to.Addr().Is6() && p.v6 {
			return p.real, p.real != to
		}
	}
	return to, false
}

// refuse gives a connection back.
func refuse(conn Conn, errno syscall.Errno) {
	if r, ok := conn.(interface{ Refuse(syscall.Errno) }); ok {
		r.Refuse(errno)
		return
	}
	conn.Close()
}

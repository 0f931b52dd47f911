//go:build linux && (amd64 || arm64)

package layer

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// refusalWait is how long after a connect we keep the means to tell the program's socket that its peer refuses: a
// duplicate of it, which keeps its port taken for that long if the program closes it.
const refusalWait = 5 * time.Second

// relay stands on loopback for one peer of one socket of the program. It dials the peer from the pod when the first
// datagram comes, and again after a rest.
type relay struct {
	d    *datagrams
	addr netip.AddrPort // its own, on loopback
	peer netip.AddrPort // whom it stands for
	used atomic.Int64   // nanoseconds since 1970 of the last datagram

	// Guarded by datagrams.mu.
	app       netip.AddrPort // the program's socket, once known
	connected bool           // that socket is connected to this relay
	local     netip.AddrPort // what the pod's socket is bound to, once dialled

	mu     sync.Mutex
	closed bool
	socket *net.UDPConn
	conn   Conn // to the peer; nil while resting
	held   int  // duplicate of the program's connected socket, or -1
}

// newRelay makes a relay for a socket of the program and a peer. The conn may be nil; the relay closes it.
func (d *datagrams) newRelay(s *datagramSocket, peer netip.AddrPort, conn Conn) (*relay, error) {
	if !s.ours() {
		return nil, unix.ENETUNREACH // in a network namespace of its own, where our loopback is not
	}
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.loopback(), 0)))
	if err != nil {
		return nil, err
	}
	r := &relay{d: d, peer: peer, socket: u, held: -1}
	r.addr = unmapped(u.LocalAddr().(*net.UDPAddr).AddrPort())
	r.used.Store(time.Now().UnixNano())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		_ = u.Close()
		return nil, unix.ENETUNREACH
	}
	if len(d.relays) >= maxRelays {
		oldest := d.lockedOldest()
		delete(d.relays, oldest.addr)
		go oldest.close()
	}
	d.relays[r.addr] = r
	if conn != nil {
		r.lockedDialled(conn)
	}
	d.done.Go(func() { r.pump(u) })
	return r, nil
}

// adopt notes which socket was connected to the relay, and holds a duplicate for a while: see refuse.
func (r *relay) adopt(s *datagramSocket) {
	app := sockname(s.fd)
	r.d.mu.Lock()
	r.app, r.connected = netip.AddrPortFrom(r.addr.Addr(), app.Port()), true
	r.d.mu.Unlock()
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return
	}
	r.mu.Lock()
	r.held = fd
	r.mu.Unlock()
	time.AfterFunc(refusalWait, r.letGo)
}

func (r *relay) letGo() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held >= 0 {
		unix.Close(r.held)
		r.held = -1
	}
}

// pump carries datagrams from the program to the peer until the socket is closed.
func (r *relay) pump(u *net.UDPConn) {
	raw, err := u.SyscallConn()
	if err != nil {
		return
	}
	for {
		var n int
		var from netip.AddrPort
		buf := buffers.Get().(*[maxDatagram]byte) // only while there is something to read
		err := raw.Read(func(fd uintptr) bool {
			k, sa, e := unix.Recvfrom(int(fd), buf[:], 0)
			n, from, err = k, addrPortOf(sa), e
			return !errors.Is(e, unix.EAGAIN)
		})
		if err != nil {
			buffers.Put(buf)
			return
		}
		if r.isApp(from) && n >= 0 {
			r.forward(buf[:n])
		}
		buffers.Put(buf)
	}
}

// isApp reports whether a datagram came from the program's socket: the first one to send is it, whoever else finds the
// relay is not.
func (r *relay) isApp(from netip.AddrPort) bool {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	if !r.app.IsValid() {
		r.app = from
	}
	return r.app.Port() == from.Port()
}

// forward sends one datagram to the peer, from the pod.
func (r *relay) forward(b []byte) {
	r.used.Store(time.Now().UnixNano())
	r.mu.Lock()
	conn := r.conn
	r.mu.Unlock()
	if conn == nil {
		var err error
		if conn, err = r.d.dial(r.peer); err != nil {
			r.d.log.Debug("dial for datagrams", "remote", r.peer, "err", err)
			r.refuse(nil, err)
			return
		}
		r.d.mu.Lock()
		r.lockedDialled(conn)
		r.d.mu.Unlock()
	}
	if _, err := conn.Write(b); err != nil {
		r.refuse(conn, err)
	}
}

// lockedDialled puts a new connection to the peer into use; datagrams.mu is held.
func (r *relay) lockedDialled(conn Conn) {
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		r.local = unmapped(a.AddrPort())
		r.d.source[familyIndex(r.peer)] = r.local.Addr()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		conn.Close()
		return
	}
	r.conn = conn
	r.d.done.Go(func() { r.answer(conn) })
}

// answer carries datagrams from the peer to the program until the connection is closed.
func (r *relay) answer(conn Conn) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			r.refuse(conn, err)
			return
		}
		r.used.Store(time.Now().UnixNano())
		r.deliver(buf[:n])
		r.letGo() // it does not refuse
	}
}

// deliver gives a datagram to the program as if the peer had sent it. One that a call took from the socket, but was
// interrupted before it could return it, is delivered again in this way: readiness and all.
func (r *relay) deliver(b []byte) {
	r.d.mu.Lock()
	to := r.app
	r.d.mu.Unlock()
	r.mu.Lock()
	u := r.socket
	r.mu.Unlock()
	if to.IsValid() {
		_, _ = u.WriteToUDPAddrPort(b, to) // a full receive buffer drops it, as it would the peer's
	}
}

// refuse ends the connection, and lets the program's socket feel a refusal if that is what ended it: the relay vanishes,
// an empty datagram from the held duplicate draws an ICMP error, and the relay returns.
func (r *relay) refuse(conn Conn, err error) {
	r.mu.Lock()
	current := r.conn == conn // else it was closed by us, and another may be in use
	r.mu.Unlock()
	if !current {
		return
	}
	r.rest()
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.held < 0 {
		return
	}
	_ = r.socket.Close()
	_ = unix.Send(r.held, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(r.addr))
	if err != nil {
		return // the port went to somebody else: further sends are refused for good
	}
	r.socket = u
	r.d.done.Go(func() { r.pump(u) })
}

// rest closes the connection to the peer; the next datagram makes a new one.
func (r *relay) rest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

// close ends the relay. A socket that is still connected to it is refused at its next send. It is safe to call twice.
func (r *relay) close() {
	r.letGo()
	r.mu.Lock()
	r.closed = true
	_ = r.socket.Close()
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
	r.mu.Unlock()
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	delete(r.d.relays, r.addr)
	for key, other := range r.d.sending {
		if other == r {
			delete(r.d.sending, key)
		}
	}
	for cookie, other := range r.d.connected {
		if other == r {
			delete(r.d.connected, cookie)
		}
	}
}

// buffers are for one datagram each.
var buffers = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

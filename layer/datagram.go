//go:build linux && (amd64 || arm64)

package layer

import (
	"errors"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

const (
	maxDatagram   = 65535            // what UDP's length field can say
	maxRelays     = 512              // each a socket and, once used, two goroutines and a buffer; the one silent for longest goes, and who is connected to it is refused
	relayIdle     = 2 * time.Minute  // as long as conntrack remembers a UDP stream; then the pod's end is closed
	maxUnanswered = 1024             // interrupted sends that we remember; each is one thread's
	relaySweep    = 30 * time.Second // how often we look for relays whose socket is gone: the close of a UDP socket is invisible
)

// datagrams lets the program talk UDP as the pod. Each pair of a local socket and a remote peer gets a relay, a socket of
// ours on loopback that stands for the peer; what the program sends goes there, and the address of the relay is
// translated wherever the program would see it.
//
// send, recv, read and write on a connected socket never come here. Sockets of any other kind are let through after the
// shortest look that tells. It is safe for concurrent use.
type datagrams struct {
	dial func(to netip.AddrPort) (Conn, error) // a datagram connection from the pod
	log  *slog.Logger
	seed maphash.Seed

	mu         sync.Mutex
	closed     bool
	relays     map[netip.AddrPort]*relay // by their own address
	connected  map[uint64]*relay         // by the cookie of a connected socket
	sending    map[association]*relay    // of unconnected sockets
	unanswered map[int]sent              // by thread
	source     [2]netip.Addr             // the pod's own address for IPv4 and IPv6, once a dial has shown it

	stop chan struct{}
	done sync.WaitGroup
}

// association is a socket, by its cookie, and a peer that it sent to.
type association struct {
	cookie uint64
	peer   netip.AddrPort
}

// newDatagrams starts the relaying of datagrams; close ends it. The dial function must return when close is called.
func newDatagrams(dial func(to netip.AddrPort) (Conn, error), log *slog.Logger) *datagrams {
	d := &datagrams{dial: dial, log: log, seed: maphash.MakeSeed(), relays: map[netip.AddrPort]*relay{}, connected: map[uint64]*relay{},
		sending: map[association]*relay{}, unanswered: map[int]sent{}, stop: make(chan struct{})}
	d.done.Go(d.sweep)
	return d
}

// rules are the calls that calls answers. Only those are trapped whose address the kernel's filter sees to be there, or
// cannot see because it lies in memory.
func (d *datagrams) rules() []unotify.Rule {
	return []unotify.Rule{
		unotify.Notify(unix.SYS_SENDTO, unotify.NonNil(4)),
		unotify.Notify(unix.SYS_SENDMSG),
		unotify.Notify(unix.SYS_SENDMMSG),
		unotify.Notify(unix.SYS_RECVFROM, unotify.NonNil(4)),
		unotify.Notify(unix.SYS_RECVMSG),
		unotify.Notify(unix.SYS_RECVMMSG),
	}
}

// calls maps call numbers to who answers them.
func (d *datagrams) calls() map[int]unotify.Handler {
	return map[int]unotify.Handler{
		unix.SYS_SENDTO:   d.sendto,
		unix.SYS_SENDMSG:  d.sendmsg,
		unix.SYS_SENDMMSG: d.sendmmsg,
		unix.SYS_RECVFROM: d.recvfrom,
		unix.SYS_RECVMSG:  d.recvmsg,
		unix.SYS_RECVMMSG: d.recvmmsg,
	}
}

// connect connects the datagram socket fd, a duplicate that becomes ours, to a remote peer, and answers the call. The
// first peer of an address family is dialled at once, so that a pod without IPv6 says so; later ones when a datagram
// comes, because getaddrinfo connects a socket to each of its results only to learn the source address.
func (d *datagrams) connect(c *unotify.Call, fd int, to netip.AddrPort) unotify.Verdict {
	s, err := newDatagramSocket(fd)
	if err != nil {
		unix.Close(fd)
		return unotify.Fail(unix.ENETUNREACH)
	}
	if !s.udp {
		unix.Close(fd)
		return unotify.Fail(unix.ENETUNREACH) // UDP-Lite, DCCP, ping: nothing of ours carries them
	}
	if errno := s.reach(to); errno != 0 {
		unix.Close(fd)
		return unotify.Fail(errno)
	}
	d.mu.Lock()
	known := d.source[familyIndex(to)].IsValid()
	d.mu.Unlock()
	if known {
		defer unix.Close(fd)
		return d.attach(s, to, nil)
	}
	d.done.Go(func() {
		defer unix.Close(fd)
		conn, err := d.dial(to)
		if err != nil {
			c.Answer(unotify.Fail(errnoOf(err)))
			return
		}
		if !c.Answer(d.attach(s, to, conn)) {
			d.disconnect(s.cookie) // The restarted call begins anew.
		}
	})
	return unotify.Later()
}

// attach connects the program's socket to a new relay for the peer.
func (d *datagrams) attach(s *datagramSocket, to netip.AddrPort, conn Conn) unotify.Verdict {
	r, err := d.newRelay(s, to, conn)
	if err != nil {
		if conn != nil {
			conn.Close()
		}
		return unotify.Fail(errnoOf(err))
	}
	if err := connectTo(s.fd, s.encode(r.addr)); err != nil {
		r.close()
		return unotify.Fail(errnoOf(err))
	}
	r.adopt(s)
	d.mu.Lock()
	old := d.connected[s.cookie]
	d.connected[s.cookie] = r
	d.mu.Unlock()
	if old != nil {
		old.close()
	}
	return unotify.Return(0)
}

// disconnect forgets what the socket with this cookie was connected to. Call it when a datagram socket is connected to
// nothing or to something local.
func (d *datagrams) disconnect(cookie uint64) {
	d.mu.Lock()
	r := d.connected[cookie]
	delete(d.connected, cookie)
	d.mu.Unlock()
	if r != nil {
		r.close()
	}
}

// names are the addresses that a connected socket must believe in. The local address is the pod's with the socket's own
// port until a datagram has been sent; ok is false for sockets that we know nothing of.
func (d *datagrams) names(cookie uint64) (local, peer netip.AddrPort, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.connected[cookie]
	if r == nil {
		return local, peer, false
	}
	if r.local.IsValid() {
		return r.local, r.peer, true
	}
	return netip.AddrPortFrom(d.source[familyIndex(r.peer)], r.app.Port()), r.peer, true
}

// relayFor finds or makes the relay that takes datagrams of an unconnected socket to the peer.
func (d *datagrams) relayFor(s *datagramSocket, to netip.AddrPort) (*relay, error) {
	key := association{s.cookie, to}
	d.mu.Lock()
	r := d.connected[s.cookie] // a connected socket may name its own peer
	if r == nil || r.peer != to {
		r = d.sending[key]
	}
	d.mu.Unlock()
	if r != nil {
		return r, nil
	}
	if errno := s.reach(to); errno != 0 {
		return nil, errno
	}
	r, err := d.newRelay(s, to, nil)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.sending[key] = r
	d.mu.Unlock()
	return r, nil
}

// standsFor translates the address of a relay into that of the peer it stands for.
func (d *datagrams) standsFor(from netip.AddrPort) (*relay, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.relays[from]
	return r, ok
}

// close ends all relays.
func (d *datagrams) close() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.closed = true
	var all []*relay
	for _, r := range d.relays {
		all = append(all, r)
	}
	d.mu.Unlock()
	close(d.stop)
	for _, r := range all {
		r.close()
	}
	d.done.Wait()
}

// lockedOldest is the relay that has been silent for longest.
func (d *datagrams) lockedOldest() (oldest *relay) {
	for _, r := range d.relays {
		if oldest == nil || r.used.Load() < oldest.used.Load() {
			oldest = r
		}
	}
	return oldest
}

// sweep closes relays that nobody uses any more.
func (d *datagrams) sweep() {
	tick := time.NewTicker(relaySweep)
	defer tick.Stop()
	for {
		select {
		case <-d.stop:
			return
		case now := <-tick.C:
			d.sweepAt(now)
		}
	}
}

func (d *datagrams) sweepAt(now time.Time) {
	d.mu.Lock()
	var idle, gone []*relay // an idle relay of an unconnected socket goes too: the next datagram gets a new one
	if len(d.relays) > 0 {
		bound, err := boundPorts()
		for _, r := range d.relays {
			switch {
			case err == nil && r.app.IsValid() && !bound[r.app.Port()]:
				gone = append(gone, r)
			case now.Sub(time.Unix(0, r.used.Load())) <= relayIdle:
			case r.connected:
				idle = append(idle, r)
			default:
				gone = append(gone, r)
			}
		}
	}
	d.mu.Unlock()
	for _, r := range gone {
		r.close()
	}
	for _, r := range idle {
		r.rest()
	}
}

// boundPorts are the ports that UDP sockets of this network namespace are bound to.
func boundPorts() (map[uint16]bool, error) {
	ports := map[uint16]bool{}
	for _, table := range []string{"/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"} {
		b, err := os.ReadFile(table)
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Split(string(b), "\n")[1:] {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			_, port, _ := strings.Cut(f[1], ":")
			if n, err := strconv.ParseUint(port, 16, 16); err == nil {
				ports[uint16(n)] = true
			}
		}
	}
	return ports, nil
}

func familyIndex(a netip.AddrPort) int {
	if a.Addr().Unmap().Is4() {
		return 0
	}
	return 1
}

// errnoOf is the errno inside err; ENETUNREACH when there is none, because a way to the pod that broke is no way.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return unix.ENETUNREACH
}

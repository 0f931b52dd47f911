//go:build linux && (amd64 || arm64)

package layer

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

// maxSockets bounds the sockets that we remember, a few hundred bytes each: more than a program may open by default.
const maxSockets = 65536

// supervisor answers the calls of one tree of processes. What it knows hangs on the kernel's own keys: connections on
// their two addresses, sockets before that on their cookie. It never keys by descriptor number, which dup, fork and
// SCM_RIGHTS would break.
type supervisor struct {
	pod       Pod
	log       *slog.Logger
	life      func() (context.Context, context.CancelFunc) // a context that ends with the session
	holds     func(inode uint64, hint string) bool         // whether the program still has a socket
	holes     *blackholes
	datagrams *datagrams
	overlay   *overlay
	relays    sync.WaitGroup // all goroutines of connections
	uploads   sync.WaitGroup // what the program has sent and we have not

	attempts atomic.Int64 // attempts not told to the program yet: if none, SO_ERROR is the kernel's to answer
	bound    atomic.Int64 // sockets with a virtual address: if none, accept is the kernel's to answer

	closed sync.Once // tells of processes that are closed to us

	mu      sync.Mutex
	sockets map[uint64]*record // by cookie
	names   map[pair]pair
	here    map[uint64]pair // connections within this host that have names, by inode
	ports   map[portKey]uint16
	claims  map[uint16]*claim
	claimed chan struct{} // wakes the watch over listeners
	crowded chan struct{} // wakes the sweep

	released map[uint16]<-chan struct{} // for each port that ever was claimed, closed when its last claim is gone
}

// pair is the addresses of a connection: as the kernel has them in keys, as the program must see them in values.
type pair struct{ local, peer netip.AddrPort }

// record is what we know of a socket that is not connected.
type record struct {
	inode   uint64
	attempt *attempt // to connect; nil: none
	bound   binding
	queue   queue
}

// calls maps call numbers to who answers them.
func (s *supervisor) calls() map[int]unotify.Handler {
	return map[int]unotify.Handler{
		unix.SYS_CONNECT:     s.connect,
		unix.SYS_GETSOCKOPT:  s.socketError,
		unix.SYS_GETSOCKNAME: s.name,
		unix.SYS_GETPEERNAME: s.name,
		unix.SYS_BIND:        s.bind,
		unix.SYS_LISTEN:      s.listen,
		unix.SYS_ACCEPT:      s.accept,
		unix.SYS_ACCEPT4:     s.accept,
	}
}

// rules are the calls that calls answers, and those that must not happen at all.
func (s *supervisor) rules() []unotify.Rule {
	rules := []unotify.Rule{
		unotify.Notify(unix.SYS_GETSOCKOPT, unotify.Equal(1, unix.SOL_SOCKET), unotify.Equal(2, unix.SO_ERROR)),
		// MPTCP has no simultaneous open; all who ask for it go on with TCP when it is not there.
		unotify.Deny(unix.SYS_SOCKET, unix.EPROTONOSUPPORT, unotify.Equal(2, unix.IPPROTO_MPTCP)),
		// A ring would make calls that no filter sees.
		unotify.Deny(unix.SYS_IO_URING_SETUP, unix.ENOSYS),
		// A process that is not dumpable is closed to us: it may believe that it is.
		unotify.Deny(unix.SYS_PRCTL, 0, unotify.Equal(0, unix.PR_SET_DUMPABLE)),
	}
	for _, nr := range []int{unix.SYS_CONNECT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_BIND, unix.SYS_LISTEN,
		unix.SYS_ACCEPT, unix.SYS_ACCEPT4} {
		rules = append(rules, unotify.Notify(nr))
	}
	return rules
}

// table joins what the parts answer into one handler.
func table(parts ...map[int]unotify.Handler) unotify.Handler {
	all := map[int]unotify.Handler{}
	for _, p := range parts {
		for nr, h := range p {
			all[nr] = h
		}
	}
	return func(c *unotify.Call) unotify.Verdict {
		if h, ok := all[c.Nr]; ok {
			return h(c)
		}
		return unotify.Fail(unix.ENOSYS) // trapped by nobody's rule: our bug, but not a way out
	}
}

// record is what we know of the socket; nil: nothing.
func (s *supervisor) record(cookie uint64) *record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sockets[cookie]
}

// lockedRecord finds or makes the record of a socket.
func (s *supervisor) lockedRecord(k *socket) *record {
	r := s.sockets[k.cookie]
	if r == nil {
		r = &record{inode: k.inode()}
		s.sockets[k.cookie] = r
		if len(s.sockets) > maxSockets/2 {
			select {
			case s.crowded <- struct{}{}:
			default:
			}
		}
	}
	return r
}

// lockedForget drops the record if nothing is left in it.
func (s *supervisor) lockedForget(cookie uint64) {
	if r := s.sockets[cookie]; r != nil && r.attempt == nil && !r.bound.at.IsValid() {
		delete(s.sockets, cookie)
	}
}

func (s *supervisor) setNames(real, seen pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[real] = seen
}

// dropNames forgets names that setNames was given. Once a relay has closed its socket, the next one may have its port:
// that one's names stay.
func (s *supervisor) dropNames(real, seen pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names[real] == seen {
		delete(s.names, real)
	}
}

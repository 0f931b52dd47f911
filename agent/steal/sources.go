package steal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/bpf"
	"github.com/magpie-k8s/magpie/internal/netns"
)

const (
	// rotatingPorts times the 65,536 addresses of 127.83.0.0/16 are four million sources: none comes again within its TIME_WAIT. Each port that
	// is bound by us is lost for the target's own outgoing connections as long, so they are few.
	rotatingPorts = 64
	// rememberFor keeps a closed connection's client, as the original may accept it later than we closed it.
	rememberFor = 5 * time.Second
)

// sources are the addresses that our connections to the original come from, here and in the kernel's table. It is safe for concurrent use.
type sources struct {
	steal *bpf.Steal
	ports []uint16
	room  int // how many connections we can have open

	mu     sync.Mutex
	next   uint32
	inUse  map[netip.AddrPort]*use
	closed []remembered       // oldest first
	open   map[netip.Addr]int // connections by the address that they share; the zero Addr: they rotate
	total  int                // of these
	shut   bool
}

// remembered is a source whose connection is closed. It may be in use again since.
type remembered struct {
	src netip.AddrPort
	*use
}

type use struct {
	shared  netip.Addr // see sources.open
	dialled uint16     // zero until the kernel knows it
	closed  time.Time  // zero while the connection is open
}

func newSources(ns *netns.NS, steal *bpf.Steal) (*sources, error) {
	s := &sources{steal: steal, next: rand.Uint32(), inUse: make(map[netip.AddrPort]*use), open: make(map[netip.Addr]int)}
	var err error
	if s.room, err = roomFor(steal.MaxPassed()); err != nil {
		return nil, err
	}
	err = ns.Do(func() (err error) {
		s.ports, err = freePorts()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("choose source ports: %w", err)
	}
	return s, nil
}

// roomFor leaves a quarter of our descriptors to what is not a pair of connections.
func roomFor(passed int) (int, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	return int(min(uint64(passed), files.Cur/8*3)), nil
}

// freePorts reads from /proc/sys/net, which shows the namespace of the thread that asks, which ports nobody binds by number. Of these it takes every
// other one: connect(2) looks for a port among those that are as odd or even as the first, bind(2) among the rest (inet_hashtables.c), and a
// port that is bound by one is of no use to the other.
func freePorts() ([]uint16, error) {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return nil, err
	}
	var low, high uint16
	if _, err := fmt.Fscan(bytes.NewReader(data), &low, &high); err != nil {
		return nil, fmt.Errorf("ip_local_port_range: %w", err)
	}
	reserved, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	if err != nil {
		return nil, err
	}
	taken := portSet(string(reserved))
	var free []uint16
	for p := int(low) + 1; p <= int(high); p += 2 {
		if !taken[uint16(p)] {
			free = append(free, uint16(p))
		}
	}
	if len(free) == 0 {
		return nil, fmt.Errorf("none left in %d-%d", low, high)
	}
	start := rand.IntN(len(free)) // an agent that follows another finds none of its TIME_WAITs
	return append(free[start:], free[:start]...), nil
}

// portSet reads "80,8000-8010" as ip_local_reserved_ports has it.
func portSet(list string) map[uint16]bool {
	set := make(map[uint16]bool)
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil {
			continue
		}
		for p := from; p <= to; p++ {
			set[uint16(p)] = true
		}
	}
	return set
}

// reserve gives a source that none of our connections uses: a port on addr, or with rotate on an address of 127.83.0.0/16.
func (s *sources) reserve(addr netip.Addr, rotate bool, avoid func(port uint16) bool) (netip.AddrPort, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.inUse) >= s.steal.MaxPassed() && len(s.closed) > 0 {
		if err := s.lockedForgetOldest(); err != nil { // better a wrong client in a log than a lost connection
			return netip.AddrPort{}, err
		}
	}
	if len(s.inUse) >= s.steal.MaxPassed() {
		return netip.AddrPort{}, fmt.Errorf("%d connections are open to the original: %w", len(s.inUse), bpf.ErrFull)
	}
	var closed netip.AddrPort
	for n := range s.ports {
		src := s.lockedNext(addr, rotate)
		u := s.inUse[src]
		switch {
		case avoid(src.Port()):
		case u == nil:
			s.lockedTake(src, addr, rotate)
			return src, nil
		case !u.closed.IsZero() && !closed.IsValid(): // they are used in turn: it is among the oldest
			closed = src
		}
		if n >= tries && closed.IsValid() {
			break // seldom is one free where so many in a row are not
		}
	}
	if !closed.IsValid() {
		return netip.AddrPort{}, fmt.Errorf("every source port of %s is in use: %w", addr, bpf.ErrFull)
	}
	if err := s.lockedForget(closed); err != nil {
		return netip.AddrPort{}, err
	}
	s.lockedTake(closed, addr, rotate)
	return closed, nil
}

// lockedTake marks a source as in use. The last ones are for connections that are ours already: new ones pass by.
func (s *sources) lockedTake(src netip.AddrPort, addr netip.Addr, rotate bool) {
	u := &use{shared: addr}
	if rotate {
		u.shared = netip.Addr{}
	}
	s.inUse[src] = u
	s.open[u.shared]++
	s.total++
	if s.lockedCrowded() {
		_ = s.steal.Rest() // the next beat tries again, and says why it cannot
	}
}

// lockedCrowded reports whether seven of eight sources are in use, of all or of one address.
func (s *sources) lockedCrowded() bool {
	if s.total >= s.room-s.room/8 {
		return true
	}
	for addr, n := range s.open {
		if addr.IsValid() && n >= len(s.ports)-len(s.ports)/8 {
			return true
		}
	}
	return false
}

// beat tells the kernel to send new connections to us, if we can pass any on. It reports whether we can.
func (s *sources) beat() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lockedCrowded() {
		return false, s.steal.Rest()
	}
	return true, s.steal.Beat()
}

func (s *sources) lockedNext(addr netip.Addr, rotate bool) netip.AddrPort {
	n := s.next
	s.next++
	if !rotate {
		return netip.AddrPortFrom(addr, s.ports[n%uint32(len(s.ports))])
	}
	ports := uint32(min(rotatingPorts, len(s.ports)))
	ip := [4]byte{127, 83}
	binary.BigEndian.PutUint16(ip[2:], uint16(n/ports))
	return netip.AddrPortFrom(netip.AddrFrom4(ip), s.ports[n%ports])
}

// announce lets the kernel pass a reserved source to the original's port dialled, and show it as client's.
func (s *sources) announce(src netip.AddrPort, dialled uint16, client netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return net.ErrClosed
	}
	if err := s.steal.Pass(src, dialled, client); err != nil {
		return err
	}
	s.inUse[src].dialled = dialled
	return nil
}

// live reports whether src belongs to an open connection of ours.
func (s *sources) live(src netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.inUse[src]
	return u != nil && u.closed.IsZero()
}

// release ends a reservation. With remember the kernel goes on to know the client for rememberFor.
func (s *sources) release(src netip.AddrPort, remember bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.inUse[src]
	s.total--
	if s.open[u.shared]--; s.open[u.shared] == 0 {
		delete(s.open, u.shared)
	}
	if !remember {
		return s.lockedForget(src)
	}
	u.closed = time.Now()
	s.closed = append(s.closed, remembered{src, u})
	return nil
}

// expire forgets those that have been remembered for long enough.
func (s *sources) expire(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for len(s.closed) > 0 && now.Sub(s.closed[0].closed) > rememberFor {
		errs = append(errs, s.lockedForgetOldest())
	}
	return errors.Join(errs...)
}

func (s *sources) lockedForgetOldest() error {
	oldest := s.closed[0]
	s.closed = s.closed[1:]
	if s.inUse[oldest.src] != oldest.use {
		return nil
	}
	return s.lockedForget(oldest.src)
}

func (s *sources) lockedForget(src netip.AddrPort) error {
	dialled := s.inUse[src].dialled
	delete(s.inUse, src)
	if s.shut || dialled == 0 {
		return nil
	}
	return s.steal.Forget(src, dialled)
}

// close leaves the kernel's table alone from now on.
func (s *sources) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
}

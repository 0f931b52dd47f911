// Package older knows the connections to a port that were open before it was claimed: they do not pass through the agent, so their requests stay with the
// original. Told to, it closes them one by one, each when nothing goes over it. It never closes one that is younger than the claim.
package older

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/netns"
)

// maxSeen bounds how many sockets of a port are looked at: what is beyond is neither counted nor closed. It is twice what one client can open to a
// port, and some 20 MB here.
const maxSeen = 1 << 17

// A Connection is one that was open when Find looked.
type Connection struct {
	Client, Local  netip.AddrPort
	Cookie         uint64        // the kernel's number of the socket, never used twice
	Idle           time.Duration // since the last byte, either way
	Unread, Unsent uint32        // bytes that the original has not read, and that the client has not acknowledged
}

// Connections are those that were there when Find looked. They are safe for concurrent use.
type Connections struct {
	ns    *netns.NS
	port  uint16
	known map[uint64]bool // by cookie: all that were there, also those that nobody had accepted yet
	all   []Connection
	pace  pace
}

// Find looks for the connections to a port whose new ones come to us already. Our own sockets are not among them, nor is the original's side of the
// connections that we pass; nor those whose client has hung up, which brings no request any more. The caller keeps ns open.
func Find(ctx context.Context, ns *netns.NS, port uint16) (*Connections, error) {
	d, err := openDiag(ns)
	if err != nil {
		return nil, explain(fmt.Sprintf("list connections to port %d", port), err)
	}
	defer d.close()
	seen, err := d.look(ctx, port)
	if err != nil {
		return nil, explain(fmt.Sprintf("list connections to port %d", port), err)
	}
	c := &Connections{ns: ns, port: port, known: map[uint64]bool{}, pace: gentle}
	for cookie := range seen.before {
		c.known[cookie] = true
	}
	for _, s := range seen.older {
		c.all = append(c.all, s.connection())
	}
	slices.SortFunc(c.all, func(a, b Connection) int { return cmp.Compare(b.Idle, a.Idle) })
	return c, nil
}

// Len counts them.
func (c *Connections) Len() int { return len(c.all) }

// All returns them, the one that was idle for longest first.
func (c *Connections) All() []Connection { return slices.Clone(c.all) }

func (s *socket) connection() Connection {
	return Connection{s.remoteAddr(), s.localAddr(), s.cookie(), s.idle(), s.unread, s.unsent}
}

func (s *socket) idle() time.Duration { return min(s.sent, s.received) }

// A sight is what is to be seen of a port.
type sight struct {
	before map[uint64]uint32 // inodes by cookie, of what was there at first
	older  []*socket         // of these, what is open and does not pass through us
	open   map[uint64]bool   // of these, what is open and may turn out to be so: nobody has accepted it yet
}

// look looks twice. Which sockets are ours is known from our descriptors, and in between some come and go: what has an owner at first,
// and is there afterwards still, was there while we looked at them.
func (d *diag) look(ctx context.Context, port uint16) (*sight, error) {
	at := question{states: 1<<unix.BPF_TCP_ESTABLISHED | 1<<unix.BPF_TCP_SYN_RECV}
	binary.BigEndian.PutUint16(at.id.localPort[:], port)
	v := &sight{before: map[uint64]uint32{}, open: map[uint64]bool{}}
	err := d.list(ctx, at, func(s *socket) {
		if len(v.before) < maxSeen {
			v.before[s.cookie()] = s.inode
		}
	})
	if err != nil || len(v.before) == 0 {
		return v, err
	}
	ours, err := ownSockets()
	if err != nil {
		return nil, err
	}
	passed, err := d.passed(ctx, port, ours)
	if err != nil {
		return nil, err
	}
	var listening []netip.Addr
	at.states, at.extensions = at.states|1<<unix.BPF_TCP_LISTEN, withInfo
	err = d.list(ctx, at, func(s *socket) {
		inode, was := v.before[s.cookie()]
		switch {
		case s.state == unix.BPF_TCP_LISTEN && !ours[s.inode]:
			listening = append(listening, s.localAddr().Addr())
		case !was || ours[s.inode] || passed[pair{s.localAddr(), s.remoteAddr()}]:
		case inode == 0 || s.state != unix.BPF_TCP_ESTABLISHED:
			v.open[s.cookie()] = true
		default:
			v.older = append(v.older, s)
		}
	})
	// A list that is cut into pieces may have a socket twice.
	slices.SortFunc(v.older, func(a, b *socket) int { return cmp.Compare(a.cookie(), b.cookie()) })
	v.older = slices.CompactFunc(v.older, func(a, b *socket) bool { return a.cookie() == b.cookie() })
	// What nobody who listens there can have accepted, the target has opened itself, from that port.
	v.older = slices.DeleteFunc(v.older, func(s *socket) bool {
		return !slices.ContainsFunc(listening, func(l netip.Addr) bool { return covers(l, s.localAddr().Addr()) })
	})
	return v, err
}

// covers reports whether who listens on an address gets connections to another. A listener on [::] has IPv4, too, as a rule.
func covers(listening, local netip.Addr) bool {
	return listening == local || listening.IsUnspecified() && (listening.Is6() || local.Is4())
}

// pair is a connection as the original sees it.
type pair struct{ local, remote netip.AddrPort }

// passed returns the connections that we have opened to the original.
func (d *diag) passed(ctx context.Context, port uint16, ours map[uint32]bool) (map[pair]bool, error) {
	to := question{states: ^uint32(1 << unix.BPF_TCP_LISTEN)}
	binary.BigEndian.PutUint16(to.id.remotePort[:], port)
	all := map[pair]bool{}
	err := d.list(ctx, to, func(s *socket) {
		if ours[s.inode] {
			all[pair{s.remoteAddr(), s.localAddr()}] = true
		}
	})
	return all, err
}

// ownSockets returns the inodes of our sockets; inode 0 is none's.
func ownSockets() (map[uint32]bool, error) {
	const dir = "/proc/self/fd"
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	sockets := map[uint32]bool{}
	for _, name := range names {
		link, err := os.Readlink(dir + "/" + name)
		if err != nil {
			continue // closed since
		}
		if rest, ok := strings.CutPrefix(link, "socket:["); ok {
			if inode, err := strconv.ParseUint(strings.TrimSuffix(rest, "]"), 10, 32); err == nil {
				sockets[uint32(inode)] = true
			}
		}
	}
	return sockets, nil
}

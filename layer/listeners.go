//go:build linux && (amd64 || arm64)

package layer

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// listenerWatch is how often we look whether the program still listens. We cannot hold its sockets to be told, as that
// would keep them open; a look costs some 50 µs.
const listenerWatch = 100 * time.Millisecond

// watchListeners ends claims whose sockets are gone: closed, shut down, or dead with the process.
func (s *supervisor) watchListeners(ctx context.Context) {
	tick := time.NewTicker(listenerWatch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.claimed: // sleep until there is something to watch
		}
		for s.dropListeners() {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// dropListeners ends claims that nobody listens for any more, and reports whether any are left.
func (s *supervisor) dropListeners() bool {
	s.mu.Lock()
	asked := map[uint64]bool{} // a socket that begins to listen after the look is not in it
	for _, cl := range s.claims {
		for inode := range cl.sockets {
			asked[inode] = true
		}
	}
	s.mu.Unlock()
	alive, err := listeners()
	if err != nil {
		s.log.Warn("cannot see who listens", "err", err)
		return len(asked) > 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for port, cl := range s.claims {
		for inode := range cl.sockets {
			if asked[inode] && !alive[inode] {
				delete(cl.sockets, inode)
			}
		}
		if len(cl.sockets) == 0 {
			delete(s.claims, port)
			cl.cancel() // Clients reach the original again after this.
			s.log.Debug("no longer listening", "port", port)
		}
	}
	return len(s.claims) > 0
}

// listensAt reports whether a socket of the claim listens at the place now.
func (s *supervisor) listensAt(cl *claim, place netip.AddrPort) bool {
	alive, err := listeners()
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for inode, p := range cl.sockets {
		if p.real == place && alive[inode] {
			return true
		}
	}
	return false
}

// The moment in which an accepted connection is ours, and not yet the program's.
const (
	handOvers    = 4
	handOverTime = 5 * time.Millisecond
)

// tookOver reports whether the program has accepted the connection, and then closed its listener.
func (s *supervisor) tookOver(real pair) bool {
	for range handOvers {
		if inode := connectionInode(real); inode != 0 && s.holds(inode, "") {
			return true
		}
		time.Sleep(handOverTime)
	}
	return false
}

// connectionInode finds the socket at the local end of a connection; 0 if nobody has accepted it.
func connectionInode(p pair) uint64 {
	for table, v6 := range map[string]bool{"/proc/thread-self/net/tcp": false, "/proc/thread-self/net/tcp6": true} {
		content, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		want := " " + kernelAddr(p.local, v6) + " " + kernelAddr(p.peer, v6) + " "
		_, rest, found := strings.Cut(string(content), want)
		if fields := strings.Fields(rest); found && len(fields) > 6 {
			inode, _ := strconv.ParseUint(fields[6], 10, 64)
			return inode
		}
	}
	return 0
}

// kernelAddr writes an address as /proc/net/tcp has it: the words of the address as numbers of this machine.
func kernelAddr(a netip.AddrPort, v6 bool) string {
	ip := a.Addr().AsSlice()
	if v6 {
		mapped := a.Addr().As16()
		ip = mapped[:]
	}
	var b strings.Builder
	for ; len(ip) >= 4; ip = ip[4:] {
		fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(ip))
	}
	fmt.Fprintf(&b, ":%04X", a.Port())
	return b.String()
}

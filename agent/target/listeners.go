package target

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Listeners returns the addresses on which the target accepts TCP connections, sorted, each once. Our own sockets in its namespace are not among them.
func (t *Target) Listeners() ([]netip.AddrPort, error) {
	all, err := t.listening()
	if err != nil {
		return nil, fmt.Errorf("list listeners of %s: %w", t.Name, err)
	}
	ours := socketsOf("self")
	var addrs []netip.AddrPort
	for inode, addr := range all {
		if !ours[inode] {
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	return slices.Compact(addrs), nil
}

func (t *Target) listeningInodes() (map[uint64]bool, error) {
	all, err := t.listening()
	inodes := map[uint64]bool{}
	for inode := range all {
		inodes[inode] = true
	}
	return inodes, err
}

// listening returns all listening TCP sockets of the namespace.
func (t *Target) listening() (map[uint64]netip.AddrPort, error) {
	all := map[uint64]netip.AddrPort{}
	err := t.NS.Do(func() error {
		for _, table := range []string{"tcp", "tcp6"} {
			// Of the thread, which is in the namespace; /proc/net is the process'.
			if err := readListening("/proc/thread-self/net/"+table, all); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err // there is no tcp6 when IPv6 is switched off
			}
		}
		return nil
	})
	return all, err
}

// readListening reads a table as in proc_pid_net(5). The kernel lists listeners first, so we need not read a hundred thousand connections.
func readListening(path string, into map[uint64]netip.AddrPort) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Scan() // the heading
	for lines.Scan() {
		// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
		fields := strings.Fields(lines.Text())
		const local, state, inode = 1, 3, 9
		if len(fields) <= inode {
			return fmt.Errorf("read %s: %q is cut off", path, lines.Text())
		}
		if fields[state] != "0A" {
			break
		}
		addr, err := parseAddr(fields[local])
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		n, err := strconv.ParseUint(fields[inode], 10, 64)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		into[n] = addr
	}
	return lines.Err()
}

// parseAddr reads an address as 32-bit words in the host's byte order, which is little-endian wherever we run, and a port.
func parseAddr(s string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	ip, ok := netip.AddrFromSlice(b)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", s)
	}
	return netip.AddrPortFrom(ip, uint16(n)), nil
}

package cluster

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledged is how long the kernel tries to get bytes through before it gives a connection up. Its own way, up to a
// quarter of an hour and rarer each time, would keep us on a path that was cut when there is a new one already.
const unacknowledged = 10 * time.Second

// impatient sets TCP_USER_TIMEOUT, tcp(7). A kernel that does not take it waits longer.
func impatient(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	})
}

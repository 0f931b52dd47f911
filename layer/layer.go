// Package layer runs a local process as if it were in the pod: its connections, names and listening sockets are the
// pod's. The process is not changed and neither it nor we have rights. The layer never lets a call that is meant for the
// pod fall through to the network of this host.
package layer

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

// Config says what to run. Args is required.
type Config struct {
	Args []string // the command and its arguments; the command is looked up in our PATH
	Env  []string // exactly what the process gets
	Dir  string   // empty: ours

	// Files are what the process sees at these absolute paths, such as /etc/resolv.conf, in place of this host's files.
	Files map[string][]byte

	Stdin, Stdout, Stderr *os.File // nil: /dev/null

	// Signals are what the user signals to us (see Signals), caught by who calls Run: so that none is lost between his care
	// and ours. Nil: Run catches them itself.
	Signals <-chan os.Signal

	Logger *slog.Logger // nil: nothing is logged
}

// Pod is what the process stands in. Its methods are called concurrently. An error carries the errno that the process
// shall see (errors.As with syscall.Errno); without one it is ENETUNREACH.
type Pod interface {
	// Dial connects from the pod over "tcp" or "udp"; with udp each Read and Write is one datagram. The LocalAddr of
	// the connection is the address in the pod. Dial gives up when ctx ends.
	Dial(ctx context.Context, network string, to netip.AddrPort) (Conn, error)

	// Listen claims a port of the target. The error is what listen(2) shall return.
	Listen(ctx context.Context, port uint16) (Listener, error)
}

// Conn is a connection of the pod. Close without CloseWrite before, while the other side is still sending, says that
// the connection broke off: it should be a reset for the other side.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Listener is a claim. The conns that it accepts have the true client as RemoteAddr, and as LocalAddr what the client
// dialled. A conn that also has Refuse(syscall.Errno) is given back with that when the process does not listen after all;
// others are closed.
type Listener interface {
	Accept() (Conn, error)
	Close() error // the claim vanishes at once; accepted conns live on
}

// Main runs the stage that this process was started as, and does not return then; else it does nothing. It must be the
// first call of main().
func Main() { unotify.Main() }

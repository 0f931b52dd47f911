package steal

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/bpf"
	"github.com/magpie-k8s/magpie/internal/netns"
)

const (
	// guardName is an abstract socket: those belong to a network namespace, and the kernel removes them with their process.
	guardName = "@magpie-agent"
	// guardPatience is how long we wait for one who is just leaving.
	guardPatience = 3 * time.Second
)

// A guard marks a network namespace as ours. The kernel would tell of another agent's program, too, but only to who has CAP_SYS_ADMIN. Nobody can talk to
// the socket: it does not listen.
type guard struct{ socket *os.File }

// takeGuard fails with bpf.ErrTaken when another agent has it.
func takeGuard(ns *netns.NS) (*guard, error) {
	for end := time.Now().Add(guardPatience); ; time.Sleep(20 * time.Millisecond) {
		socket, err := bindGuard(ns)
		if err == nil {
			return &guard{socket}, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("guard: %w", err)
		}
		if time.Now().After(end) {
			return nil, bpf.ErrTaken
		}
	}
}

func bindGuard(ns *netns.NS) (socket *os.File, err error) {
	err = ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: guardName}); err != nil {
			unix.Close(fd)
			return os.NewSyscallError("bind", err)
		}
		socket = os.NewFile(uintptr(fd), guardName)
		return nil
	})
	return socket, err
}

// Close lets another agent in. It is safe to call twice, and on nil.
func (g *guard) Close() error {
	if g == nil {
		return nil
	}
	if err := g.socket.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

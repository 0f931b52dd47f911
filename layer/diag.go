//go:build linux && (amd64 || arm64)

package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// What we need of sock_diag(7): a request is a struct inet_diag_req_v2, an answer a struct inet_diag_msg.
const (
	diagRequestSize = 56
	diagAnswerSize  = 72
	diagStates      = 4  // offset of idiag_states in the request
	diagInode       = 68 // offset of idiag_inode in the answer
	tcpListen       = 1 << 10
)

// listeners are the inodes of all TCP sockets of this network namespace that listen. Asking for them alone costs the
// kernel a walk over its listeners; /proc/net/tcp would be one over every connection.
func listeners() (map[uint64]bool, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	found := map[uint64]bool{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := addListeners(fd, family, found); err != nil {
			return nil, fmt.Errorf("list listeners: %w", err)
		}
	}
	return found, nil
}

func addListeners(fd int, family uint8, found map[uint64]bool) error {
	request := make([]byte, unix.SizeofNlMsghdr+diagRequestSize)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := request[unix.SizeofNlMsghdr:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[diagStates:], tcpListen)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for answers := make([]byte, 32<<10); ; { // as large as the kernel makes them, netlink(7)
		n, _, err := unix.Recvfrom(fd, answers, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(answers[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_DONE:
				return nil
			case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
				return syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
			case len(m.Data) >= diagAnswerSize:
				found[uint64(binary.NativeEndian.Uint32(m.Data[diagInode:]))] = true
			}
		}
	}
}

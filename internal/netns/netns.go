// Package netns opens Linux network namespaces and runs code inside them. It never moves the caller's own thread.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// NS is an open network namespace. The descriptor keeps the namespace alive, even after its name is gone and its last process has ended.
// It is safe for concurrent use.
type NS struct {
	file      *os.File
	name      string
	id        ID
	own       bool // our process is in it
	residents residents
}

// ID tells namespaces apart: two NS are the same namespace exactly when their IDs are equal.
type ID struct {
	Dev, Ino uint64
}

// String gives the form that /proc/PID/ns/net links to.
func (id ID) String() string { return fmt.Sprintf("net:[%d]", id.Ino) }

// Named opens the namespace that ip-netns(8) knows as name. The root goes before /run/netns: "" is the caller's own file system,
// "/proc/1/root" that of the host when the caller has another one.
func Named(root, name string) (*NS, error) {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return nil, fmt.Errorf("open netns %q: %w", name, fs.ErrInvalid)
	}
	return open(filepath.Join("/", root, "run/netns", name), "netns/"+name)
}

// Own opens the namespace that the caller's process is in. To work in it needs no right.
func Own() (*NS, error) { return open(ofProcess, "own netns") }

// OfPID opens the namespace that a process is in. It needs the right to trace that process.
func OfPID(pid int) (*NS, error) {
	return open("/proc/"+strconv.Itoa(pid)+"/ns/net", "pid/"+strconv.Itoa(pid))
}

// New makes a namespace without a name. It has only a loopback interface, which is down, and lives as long as something holds it.
func New() (*NS, error) {
	var ns *NS
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make netns: %w", err)
		}
		var err error
		ns, err = open(ofThread, "netns")
		return err
	})
	return ns, err
}

// ofProcess is the namespace of the main thread, which never moves.
const ofProcess = "/proc/self/ns/net"

// ofThread is the namespace of the thread that opens it; /proc/self would be the main thread's.
const ofThread = "/proc/thread-self/ns/net"

func open(path, name string) (*NS, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	id, err := identify(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %s: %w", name, path, err)
	}
	return &NS{file: f, name: name, id: id, own: id == ownID()}, nil
}

// ownID is the zero ID where there is no /proc.
func ownID() ID {
	var st unix.Stat_t
	if unix.Stat(ofProcess, &st) != nil {
		return ID{}
	}
	return ID{Dev: st.Dev, Ino: st.Ino}
}

var errNotNetns = errors.New("not a network namespace")

// identify also turns away a plain file: `ip netns add` leaves one when its mount fails, and shows one to other mount namespaces.
func identify(f *os.File) (ID, error) {
	var sfs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &sfs); err != nil {
		return ID{}, err
	}
	if sfs.Type != unix.NSFS_MAGIC {
		return ID{}, errNotNetns
	}
	if kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err != nil {
		return ID{}, err
	} else if kind != unix.CLONE_NEWNET {
		return ID{}, errNotNetns
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return ID{}, err
	}
	return ID{Dev: st.Dev, Ino: st.Ino}, nil
}

// String names the namespace as it was opened: netns/NAME or pid/N.
func (ns *NS) String() string { return ns.name }

// ID gives the namespace's identity.
func (ns *NS) ID() ID { return ns.id }

// Fd gives the descriptor, valid until Close.
func (ns *NS) Fd() int { return int(ns.file.Fd()) }

// Cookie gives the number by which BPF programs know the namespace (bpf_get_netns_cookie). It needs Linux 5.14.
func (ns *NS) Cookie() (uint64, error) {
	var cookie uint64
	err := ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("cookie of %s: %w", ns, err)
	}
	return cookie, nil
}

// Do runs fn on a thread inside the namespace and waits for it. Sockets and processes that fn makes belong to the namespace for good; goroutines it
// starts do not run there. It costs two setns(2) and a change of thread, and needs CAP_SYS_ADMIN each time, unless it is our
// own namespace or threads of ours reside there.
func (ns *NS) Do(fn func() error) error {
	if ns.own {
		return elsewhere(fn)
	}
	if done, err := ns.residents.do(fn); done {
		return err
	}
	return onThread(func() error {
		if err := ns.enter(); err != nil {
			return err
		}
		return fn()
	})
}

func (ns *NS) enter() error {
	if err := unix.Setns(ns.Fd(), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", ns, err)
	}
	return nil
}

// Close lets go of the namespace, once what Do runs there on residents is over. It is safe to call twice.
func (ns *NS) Close() error {
	ns.residents.leave()
	if err := ns.file.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("close %s: %w", ns, err)
	}
	return nil
}

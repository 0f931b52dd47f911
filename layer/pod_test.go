package layer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer"
)

// slowness is how long a connection to slowV4 takes, and how long the world waits for silent.
const slowness = 700 * time.Millisecond

// brokeredPod is a layer.Pod of real sockets in the pod's namespace. The test, which is root, makes them and hands over
// their descriptors; the supervisor, which has no rights, uses them. The string is the path of the broker's socket.
type brokeredPod struct{ broker string }

// order is what the supervisor asks the broker for: a connection, or a listener when Network is "listen".
type order struct {
	Network string
	To      netip.AddrPort
}

func (p brokeredPod) Dial(ctx context.Context, network string, to netip.AddrPort) (layer.Conn, error) {
	f, err := p.get(ctx, order{network, to})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return newPodConn(c), nil
}

func (p brokeredPod) Listen(ctx context.Context, port uint16) (layer.Listener, error) {
	f, err := p.get(ctx, order{"listen", netip.AddrPortFrom(netip.IPv6Unspecified(), port)})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return podListener{l}, nil
}

// get asks the broker for a socket. The broker gives up when this end closes, so ctx reaches across.
func (p brokeredPod) get(ctx context.Context, o order) (*os.File, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", p.broker)
	if err != nil {
		return nil, errors.New("no way to the pod: " + err.Error()) // its errno is not one of the pod's
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := json.NewEncoder(c).Encode(o); err != nil {
		return nil, err
	}
	errno, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.(*net.UnixConn).ReadMsgUnix(errno, oob)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case errno[0] != 0:
		return nil, &net.OpError{Op: "dial", Net: o.Network, Err: os.NewSyscallError("connect", syscall.Errno(errno[0]))}
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("no descriptor: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "pod"), nil
}

// podConn gives datagram conns a CloseWrite, which they ignore.
type podConn struct{ net.Conn }

func newPodConn(c net.Conn) layer.Conn {
	if t, ok := c.(*net.TCPConn); ok {
		return &refusable{TCPConn: t}
	}
	return podConn{c}
}

func (podConn) CloseWrite() error { return nil }

type refusable struct {
	*net.TCPConn
	ended atomic.Bool
}

// Refuse resets the connection: the pod's kernel has accepted it already.
func (r *refusable) Refuse(syscall.Errno) { r.SetLinger(0); r.TCPConn.Close() }

func (r *refusable) CloseWrite() error {
	r.ended.Store(true)
	return r.TCPConn.CloseWrite()
}

// Close resets a connection that breaks off.
func (r *refusable) Close() error {
	if !r.ended.Load() {
		r.SetLinger(0)
	}
	return r.TCPConn.Close()
}

type podListener struct{ net.Listener }

func (l podListener) Accept() (layer.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newPodConn(c), nil
}

// mustBroker serves the pod's sockets to supervisors until the test ends, and returns its path.
func (w *world) mustBroker(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(mustFolder(tb), "pod")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go w.serveOrders(l)
	return path
}

func (w *world) serveOrders(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go w.serveOrder(c)
	}
}

func (w *world) serveOrder(c *net.UnixConn) {
	defer c.Close()
	var o order
	if err := json.NewDecoder(c).Decode(&o); err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		c.Read(make([]byte, 1)) // ends when the supervisor closes its end
		cancel()
	}()
	f, err := w.fill(ctx, o)
	if err != nil {
		errno := syscall.EIO
		errors.As(err, &errno)
		c.Write([]byte{byte(errno)})
		return
	}
	defer f.Close()
	c.WriteMsgUnix([]byte{0}, unix.UnixRights(int(f.Fd())), nil)
}

// fill makes the socket of an order inside the pod.
func (w *world) fill(ctx context.Context, o order) (f *os.File, err error) {
	if o.To.Addr().String() == slowV4 && o.Network == "tcp" {
		select {
		case <-time.After(slowness): // a slow network, which the kernel here cannot imitate
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	err = w.pod.do(func() error {
		if o.Network == "listen" {
			l, err := net.Listen("tcp", o.To.String())
			if err != nil {
				return err
			}
			defer l.Close()
			f, err = l.(*net.TCPListener).File()
			return err
		}
		d := net.Dialer{Control: func(network, _ string, raw syscall.RawConn) error {
			if network != "udp4" && network != "udp6" {
				// A shorter patience than the kernel's two minutes, for the one address that never answers.
				return raw.Control(func(fd uintptr) {
					unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(slowness.Milliseconds()))
				})
			}
			return nil
		}}
		c, err := d.DialContext(ctx, o.Network, o.To.String())
		if err != nil {
			return err
		}
		defer c.Close()
		f, err = c.(interface{ File() (*os.File, error) }).File()
		return err
	})
	return f, err
}

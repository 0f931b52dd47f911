//go:build linux && (amd64 || arm64)

package layer

import (
	"context"
	"io"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// join relays between the program's connection and the pod's until both are done, and closes them. An end of file passes
// through as such, and a connection that breaks off on one side breaks off on the other. It begins with a place in
// s.uploads, so that what the program wrote before it ended still goes out.
func (s *supervisor) join(app *net.TCPConn, pod Conn) {
	ctx, end := s.life()
	defer end()
	defer context.AfterFunc(ctx, func() {
		app.Close()
		pod.Close()
	})()
	s.uploads.Add(1)
	var failed error // of the download, when down is closed
	down := make(chan struct{})
	go func() {
		defer close(down)
		failed = download(app, pod)
	}()

	sent, err := io.Copy(pod, app)
	if err == nil {
		err = pod.CloseWrite()
	} else if sent == 0 {
		refuse(pod, errnoOf(err)) // The program has not said a word: another may still answer.
	}
	s.uploads.Done()
	if err == nil {
		gone := watchGone(app)
		select {
		case <-down:
			err = failed
		case <-gone:
			// Nobody is left to read what the pod sends.
		}
	}
	if err != nil {
		breakOff(app)
	}
	app.Close()
	pod.Close()
	<-down
}

// download relays what the pod sends. On an error the program's connection is reset at once, even if the program sends
// nothing that would fail.
func download(app *net.TCPConn, pod Conn) error {
	_, err := io.Copy(app, pod)
	if err == nil {
		err = app.CloseWrite()
	}
	if err != nil {
		breakOff(app)
	}
	return err
}

// breakOff resets a connection: its other end gets ECONNRESET.
func breakOff(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// watchGone tells when a connection whose other end has sent its last word is gone altogether: closed with nobody to read,
// which keep-alive probes find out. The channel is closed then, or when c is.
func watchGone(c *net.TCPConn) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		raw, err := c.SyscallConn()
		if err != nil {
			return
		}
		_ = raw.Read(func(fd uintptr) bool {
			return (&socket{fd: int(fd)}).state() == unix.BPF_TCP_CLOSE
		})
	}()
	return gone
}

// addrPort is an address of the net package, IPv4 where it is IPv4 in IPv6; invalid if it is of another kind.
func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	if t, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return unmapped(t.AddrPort())
	}
	p, _ := netip.ParseAddrPort(a.String())
	return unmapped(p)
}

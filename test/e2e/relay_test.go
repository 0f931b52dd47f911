//go:build e2e

package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// relay is a way to a server that can be cut.
type relay struct {
	to, at string

	mu    sync.Mutex
	door  net.Listener
	conns []net.Conn
}

func newRelay(tb testing.TB, to string) *relay {
	tb.Helper()
	r := &relay{to: to, at: "127.0.0.1:0"}
	r.Mend(tb)
	r.at = r.Addr()
	tb.Cleanup(r.Cut)
	return r
}

// Addr is where the server seems to be.
func (r *relay) Addr() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.door.Addr().String()
}

// Cut resets all connections and refuses new ones.
func (r *relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.door.Close()
	for _, conn := range r.conns {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	r.conns = nil
}

// Mend lets new connections through.
func (r *relay) Mend(tb testing.TB) {
	tb.Helper()
	door, err := net.Listen("tcp", r.at)
	if err != nil {
		tb.Fatal(err)
	}
	r.mu.Lock()
	r.door = door
	r.mu.Unlock()
	go r.serve(door)
}

func (r *relay) serve(door net.Listener) {
	for {
		conn, err := door.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", r.to)
		if err != nil {
			conn.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, conn, far)
		r.mu.Unlock()
		go pour(conn, far)
		go pour(far, conn)
	}
}

func pour(to, from net.Conn) {
	io.Copy(to, from)
	to.Close()
}

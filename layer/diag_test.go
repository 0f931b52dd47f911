//go:build linux && (amd64 || arm64)

package layer

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListenersAreThoseThatListen(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if all, err := listeners(); err != nil || !all[st.Ino] {
			t.Errorf("%s: socket %d is not among %v, %v", addr, st.Ino, all, err)
		}
		l.Close()
		if all, err := listeners(); err != nil || all[st.Ino] {
			t.Errorf("%s: socket %d still listens, %v", addr, st.Ino, err)
		}
	}
}

func BenchmarkListeners(b *testing.B) {
	for b.Loop() {
		if _, err := listeners(); err != nil {
			b.Fatal(err)
		}
	}
}

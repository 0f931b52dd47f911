package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

func TestDatagramsKeepTheirBorders(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, theirs := mustOpen(t, client, agent)
	in, out := NewDatagrams(ours), NewDatagrams(theirs)
	for _, size := range []int{1, 0, 512, maxDatagram} {
		sent := bytes.Repeat([]byte{'d'}, size)
		if n, err := out.Write(sent); n != size || err != nil {
			t.Fatal(n, err)
		}
		got := make([]byte, maxDatagram+1)
		if n, err := in.Read(got); err != nil || !bytes.Equal(got[:n], sent) {
			t.Errorf("%d bytes came as %d, %v", size, n, err)
		}
	}
	if _, err := out.Write(make([]byte, maxDatagram+1)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("too long: %v; want EMSGSIZE", err)
	}
}

func TestDatagramIsCutToTheReadersBuffer(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, theirs := mustOpen(t, client, agent)
	in, out := NewDatagrams(ours), NewDatagrams(theirs)
	for _, d := range []string{"first", "second"} {
		if _, err := out.Write([]byte(d)); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 3)
	for _, want := range []string{"fir", "sec"} {
		if n, err := in.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("read %q, %v; want %q", b[:n], err, want)
		}
	}
}

func TestSocketErrorComesOnceAndTheAssociationGoesOn(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, theirs := mustOpen(t, client, agent)
	in, out := NewDatagrams(ours), NewDatagrams(theirs)
	if err := out.WriteError(&net.OpError{Op: "read", Err: syscall.ECONNREFUSED}); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte("later")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	if _, err := in.Read(b); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("read: %v; want ECONNREFUSED", err)
	}
	if n, err := in.Read(b); err != nil || string(b[:n]) != "later" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	out.Close()
	if _, err := in.Read(b); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v; want EOF", err)
	}
}

func TestBrokenDatagramFramesAreErrors(t *testing.T) {
	for _, bad := range []string{"\x00", "\x00\x05cut", "\xff\xf8", "\xff\xff\x00", "\xff\xff\x00\x00\x00\x00"} {
		client, agent := mustCarriers(t)
		ours, theirs := mustOpen(t, client, agent)
		mustWrite(t, theirs, bad)
		theirs.CloseWrite()
		if _, err := NewDatagrams(ours).Read(make([]byte, 16)); !errors.Is(err, syscall.EPROTO) {
			t.Errorf("%q: %v; want EPROTO", bad, err)
		}
	}
}

// bytesConn is a net.Conn that has b to read.
type bytesConn struct {
	*bytes.Reader
}

func (bytesConn) Write(b []byte) (int, error)      { return len(b), nil }
func (bytesConn) Close() error                     { return nil }
func (bytesConn) LocalAddr() net.Addr              { return streamAddr(0) }
func (bytesConn) RemoteAddr() net.Addr             { return streamAddr(0) }
func (bytesConn) SetDeadline(time.Time) error      { return nil }
func (bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (bytesConn) SetWriteDeadline(time.Time) error { return nil }

func FuzzDatagrams(f *testing.F) {
	f.Add([]byte("\x00\x02hi\x00\x00\xff\xff\x00\x00\x00\x6f\x00\x01x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := NewDatagrams(bytesConn{bytes.NewReader(b)})
		buf := make([]byte, 100)
		for reads := 0; ; reads++ {
			n, err := d.Read(buf)
			var errno syscall.Errno
			var final *Error
			if err != nil && (errors.As(err, &final) || !errors.As(err, &errno)) {
				return
			}
			if n > len(buf) || reads > len(b) {
				t.Fatalf("read %d: %d bytes of %d", reads, n, len(b))
			}
		}
	})
}

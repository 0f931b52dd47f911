package older

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// TestOurStructuresAreTheKernels by their sizes in include/uapi/linux/inet_diag.h.
func TestOurStructuresAreTheKernels(t *testing.T) {
	for what, size := range map[string][2]uintptr{
		"struct inet_diag_sockid":                {unsafe.Sizeof(sockID{}), 48},
		"struct inet_diag_req_v2 and its header": {unsafe.Sizeof(question{}), 16 + 56},
		"struct inet_diag_msg":                   {unsafe.Sizeof(answer{}), 72},
	} {
		if size[0] != size[1] {
			t.Errorf("%s: %d bytes, not %d", what, size[0], size[1])
		}
	}
}

// TestAQuestionThatWasGivenUpDoesNotSpoilTheNext one on the same socket.
func TestAQuestionThatWasGivenUpDoesNotSpoilTheNext(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	mustDial(t, n.Client, n.Target.Addr4).mustEcho(t)
	d, err := openDiag(n.Target.NS)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	v, err := d.look(t.Context(), port)
	if err != nil || len(v.older) != 1 {
		t.Fatalf("%+v, %v", v, err)
	}
	one := v.older[0]
	stale := question{family: one.family, states: ^uint32(0), id: one.id}
	stale.header = unix.NlMsghdr{Len: uint32(unsafe.Sizeof(stale)), Type: unix.SOCK_DIAG_BY_FAMILY, Flags: unix.NLM_F_REQUEST, Seq: d.seq}
	stale.protocol = unix.IPPROTO_TCP
	if _, err := unix.Write(d.fd, unsafe.Slice((*byte)(unsafe.Pointer(&stale)), unsafe.Sizeof(stale))); err != nil {
		t.Fatal(os.NewSyscallError("write", err))
	}
	other := *one
	other.id.cookie[0]++
	if now, err := d.again(t.Context(), &other); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a socket that never was: %+v, %v", now, err)
	}
	if now, err := d.again(t.Context(), one); err != nil || now.cookie() != one.cookie() || now.idle() > patience {
		t.Errorf("%+v, %v", now, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add(bytes.Repeat([]byte{1, 0}, 200), uint8(100))
	f.Fuzz(func(t *testing.T, body []byte, length uint8) {
		b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
		*(*unix.NlMsghdr)(unsafe.Pointer(&b[0])) = unix.NlMsghdr{Len: uint32(length), Type: unix.SOCK_DIAG_BY_FAMILY, Seq: 1, Flags: unix.NLM_F_MULTI}
		d := &diag{seq: 1}
		_, _ = d.parse(append(b, body...), func(s *socket) {
			if s.idle() < 0 || s.idle() > (1<<32)*time.Millisecond {
				t.Errorf("idle for %v", s.idle())
			}
			s.localAddr()
		})
	})
}

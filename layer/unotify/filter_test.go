//go:build linux && (amd64 || arm64)

package unotify

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	allow  = unix.SECCOMP_RET_ALLOW
	notify = unix.SECCOMP_RET_USER_NOTIF
	errno  = unix.SECCOMP_RET_ERRNO
)

func TestFilterDecidesByNumberArgumentsAndArchitecture(t *testing.T) {
	const bits = 0x20000000 // MSG_FASTOPEN
	verdict := mustFilter(t,
		Notify(unix.SYS_CONNECT),
		Notify(unix.SYS_SENDTO, HasAny(3, bits)),
		Notify(unix.SYS_SENDTO, NonNil(4)),
		Notify(unix.SYS_GETSOCKOPT, Equal(1, unix.SOL_SOCKET), Equal(2, unix.SO_ERROR)),
		Deny(unix.SYS_SOCKET, unix.EPROTONOSUPPORT, Equal(2, unix.IPPROTO_MPTCP)),
		Deny(unix.SYS_PRCTL, 0, Equal(0, unix.PR_SET_DUMPABLE)),
		Deny(unix.SYS_IO_URING_SETUP, unix.ENOSYS),
		Allow(unix.SYS_STATX, HasAny(2, unix.AT_EMPTY_PATH)), Notify(unix.SYS_STATX),
	)
	f := foreignCalls
	for _, c := range []struct {
		name string
		arch uint32
		nr   int
		args []uint64
		want uint32
	}{
		{"a call without rules", nativeArch, unix.SYS_READ, nil, allow},
		{"a call with a rule", nativeArch, unix.SYS_CONNECT, nil, notify},
		{"a nil pointer", nativeArch, unix.SYS_SENDTO, []uint64{1, 2, 3, 0, 0}, allow},
		{"a low pointer", nativeArch, unix.SYS_SENDTO, []uint64{1, 2, 3, 0, 4096}, notify},
		{"a pointer whose lower half is zero", nativeArch, unix.SYS_SENDTO, []uint64{1, 2, 3, 0, 1 << 32}, notify},
		{"the first rule of two", nativeArch, unix.SYS_SENDTO, []uint64{1, 2, 3, bits | 1, 0}, notify},
		{"both arguments", nativeArch, unix.SYS_GETSOCKOPT, []uint64{3, unix.SOL_SOCKET, unix.SO_ERROR}, notify},
		{"one argument of two", nativeArch, unix.SYS_GETSOCKOPT, []uint64{3, unix.SOL_SOCKET, unix.SO_TYPE}, allow},
		{"the other argument of two", nativeArch, unix.SYS_GETSOCKOPT, []uint64{3, unix.SOL_TCP, unix.SO_ERROR}, allow},
		{"an int with rubbish above it", nativeArch, unix.SYS_GETSOCKOPT, []uint64{3, 7<<32 | unix.SOL_SOCKET, unix.SO_ERROR}, notify},
		{"MPTCP", nativeArch, unix.SYS_SOCKET, []uint64{2, 1, 262}, errno | uint32(unix.EPROTONOSUPPORT)},
		{"TCP", nativeArch, unix.SYS_SOCKET, []uint64{2, 1, 0}, allow},
		{"not dumpable", nativeArch, unix.SYS_PRCTL, []uint64{unix.PR_SET_DUMPABLE, 0}, errno},
		{"another prctl", nativeArch, unix.SYS_PRCTL, []uint64{unix.PR_SET_NAME, 0}, allow},
		{"io_uring", nativeArch, unix.SYS_IO_URING_SETUP, nil, errno | uint32(unix.ENOSYS)},
		{"allowed before it is notified", nativeArch, unix.SYS_STATX, []uint64{3, 0, unix.AT_EMPTY_PATH}, allow},
		{"notified when not allowed", nativeArch, unix.SYS_STATX, []uint64{3, 0, 0}, notify},
		{"foreign socket", foreignArch, f.socket, []uint64{unix.AF_INET6}, errno | uint32(unix.EAFNOSUPPORT)},
		{"foreign unix socket", foreignArch, f.socket, []uint64{unix.AF_UNIX}, allow},
		{"foreign connect", foreignArch, f.leave[0], nil, errno | uint32(unix.ENETUNREACH)},
		{"foreign io_uring", foreignArch, unix.SYS_IO_URING_SETUP, nil, errno | uint32(unix.ENOSYS)},
		{"foreign read", foreignArch, 3, nil, allow},
		{"unknown architecture", 0x1234, unix.SYS_READ, nil, errno | uint32(unix.ENOSYS)},
	} {
		if got := verdict(c.arch, uint32(c.nr), c.args...); got != c.want {
			t.Errorf("%s: got %#x, want %#x", c.name, got, c.want)
		}
	}
	if x32Bit != 0 {
		if got := verdict(nativeArch, x32Bit|unix.SYS_CONNECT); got != errno|uint32(unix.ENOSYS) {
			t.Errorf("x32 connect: got %#x", got)
		}
	}
}

// As many rules as all calls would need: no jump may be too far.
func TestFilterHoldsManyRules(t *testing.T) {
	var rules []Rule
	for nr := range 300 {
		rules = append(rules, Notify(nr, NonNil(4)), Deny(nr, unix.EPERM, Equal(0, uint32(nr))))
	}
	verdict := mustFilter(t, rules...)
	for range 1000 {
		nr := rand.Uint32N(500)
		want := uint32(allow)
		if nr < 300 {
			want = errno | uint32(unix.EPERM)
		}
		if got := verdict(nativeArch, nr, uint64(nr)); got != want {
			t.Fatalf("call %d: got %#x, want %#x", nr, got, want)
		}
	}
}

func TestFilterRefusesWhatTheKernelWouldRefuse(t *testing.T) {
	if _, err := assemble([]Rule{Notify(1, Equal(6, 0))}); err == nil {
		t.Error("an argument number 6 passed")
	}
	var rules []Rule
	for nr := range 2000 {
		rules = append(rules, Notify(nr))
	}
	if _, err := assemble(rules); err == nil {
		t.Error("more than BPF_MAXINSNS instructions passed")
	}
}

// mustFilter assembles and returns a function that runs the filter on a call.
func mustFilter(tb testing.TB, rules ...Rule) func(arch, nr uint32, args ...uint64) uint32 {
	tb.Helper()
	code, err := assemble(rules)
	if err != nil {
		tb.Fatal(err)
	}
	var raw []bpf.Instruction
	for _, i := range code {
		raw = append(raw, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K}.Disassemble())
	}
	vm, err := bpf.NewVM(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return func(arch, nr uint32, args ...uint64) uint32 {
		// The interpreter loads words as the network orders them, seccomp as the machine does.
		d := binary.BigEndian.AppendUint32(nil, nr)
		d = binary.BigEndian.AppendUint32(d, arch)
		d = append(d, make([]byte, 8)...)
		for i := range 6 {
			var v uint64
			if i < len(args) {
				v = args[i]
			}
			d = binary.BigEndian.AppendUint32(d, uint32(v))
			d = binary.BigEndian.AppendUint32(d, uint32(v>>32))
		}
		got, err := vm.Run(d)
		if err != nil {
			tb.Fatal(err)
		}
		return uint32(got)
	}
}

//go:build linux && (amd64 || arm64)

package unotify

import (
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFilter is the kernel's limit, BPF_MAXINSNS.
const maxFilter = 4096

// Rule says what happens to a system call. The rules of one call are tried in order and the first whose conditions all
// hold decides; a call that no rule decides runs as if there were no filter.
type Rule struct {
	nr   uint32
	ret  uint32
	when []Cond
}

// Notify hands the call to the handler.
func Notify(nr int, when ...Cond) Rule {
	return Rule{uint32(nr), unix.SECCOMP_RET_USER_NOTIF, when}
}

// Allow lets the kernel run the call, whatever later rules say.
func Allow(nr int, when ...Cond) Rule {
	return Rule{uint32(nr), unix.SECCOMP_RET_ALLOW, when}
}

// Deny answers the call with an errno in the kernel, which costs nothing; errno 0 pretends success.
func Deny(nr int, errno syscall.Errno, when ...Cond) Rule {
	return Rule{uint32(nr), unix.SECCOMP_RET_ERRNO | uint32(errno)&unix.SECCOMP_RET_DATA, when}
}

// Cond is a condition on one argument of a call.
type Cond struct {
	kind  condKind
	arg   int
	value uint32
}

type condKind uint8

const (
	condEqual condKind = iota
	condBits
	condPointer
)

// Equal holds when the int argument arg (0 to 5) is v. The upper half of the register is not looked at: the kernel
// does not look at it either.
func Equal(arg int, v uint32) Cond { return Cond{condEqual, arg, v} }

// HasAny holds when the int argument arg has at least one of the bits.
func HasAny(arg int, bits uint32) Cond { return Cond{condBits, arg, bits} }

// NonNil holds when the pointer argument arg is not NULL.
func NonNil(arg int) Cond { return Cond{condPointer, arg, 0} }

// Offsets in struct seccomp_data (seccomp(2)); both our architectures are little-endian.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// assemble makes the filter of the rules: one block for each call, so that a call without rules runs through
// comparisons of its number only, and the kernel's cache of allowed calls (5.11) skips the filter for it altogether.
func assemble(rules []Rule) ([]unix.SockFilter, error) {
	native, err := blocks(rules)
	if err != nil {
		return nil, err
	}
	foreign, err := blocks(foreignRules())
	if err != nil {
		return nil, err
	}
	foreign = append(foreign, ret(unix.SECCOMP_RET_ALLOW))

	p := []unix.SockFilter{
		load(offArch),
		jump(unix.BPF_JEQ, nativeArch, 0, 1),
		goTo(3 + len(foreign)), // to the native part
		jump(unix.BPF_JEQ, foreignArch, 1, 0),
		ret(denyENOSYS),
		load(offNr),
	}
	p = append(p, foreign...)
	p = append(p, load(offNr))
	if x32Bit != 0 {
		p = append(p, jump(unix.BPF_JSET, x32Bit, 0, 1), ret(denyENOSYS))
	}
	p = append(p, native...)
	p = append(p, ret(unix.SECCOMP_RET_ALLOW))
	if len(p) > maxFilter {
		return nil, fmt.Errorf("assemble filter: %d instructions, the kernel takes %d", len(p), maxFilter)
	}
	return p, nil
}

const denyENOSYS = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// blocks assembles the rules, call by call in the order of their first rule. The accumulator holds the number of the
// call at the start of each block.
func blocks(rules []Rule) ([]unix.SockFilter, error) {
	var order []uint32
	bodies := map[uint32][]unix.SockFilter{}
	for _, r := range rules {
		if !slices.Contains(order, r.nr) {
			order = append(order, r.nr)
		}
		code, err := r.code()
		if err != nil {
			return nil, err
		}
		bodies[r.nr] = append(bodies[r.nr], code...)
	}
	var p []unix.SockFilter
	for _, nr := range order {
		body := append(bodies[nr], ret(unix.SECCOMP_RET_ALLOW))
		// A conditional jump reaches 255 instructions, an unconditional one all: so only the latter skips a body.
		p = append(p, jump(unix.BPF_JEQ, nr, 1, 0), goTo(len(body)))
		p = append(p, body...)
	}
	return p, nil
}

// code is the conditions, each of which leaves for the end of the rule when it does not hold, and the verdict.
func (r Rule) code() ([]unix.SockFilter, error) {
	var p []unix.SockFilter
	var exits []int // instructions whose "no" branch leaves the rule
	for _, c := range r.when {
		if c.arg < 0 || c.arg > 5 {
			return nil, fmt.Errorf("assemble rule for call %d: no argument %d", r.nr, c.arg)
		}
		low := load(uint32(offArgs + 8*c.arg))
		switch c.kind {
		case condEqual:
			p = append(p, low, jump(unix.BPF_JEQ, c.value, 0, 0))
		case condBits:
			p = append(p, low, jump(unix.BPF_JSET, c.value, 0, 0))
		case condPointer:
			// Any bit in the lower half: yes, over the test of the upper half.
			p = append(p, low, jump(unix.BPF_JSET, 0xffffffff, 2, 0))
			p = append(p, load(uint32(offArgs+8*c.arg+4)), jump(unix.BPF_JSET, 0xffffffff, 0, 0))
		}
		exits = append(exits, len(p)-1)
	}
	p = append(p, ret(r.ret))
	for _, i := range exits {
		d := len(p) - i - 1
		if d > 255 {
			return nil, fmt.Errorf("assemble rule for call %d: too many conditions", r.nr)
		}
		p[i].Jf = uint8(d)
	}
	return p, nil
}

func load(off uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
}

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func goTo(d int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(d)}
}

func ret(v uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v}
}

// foreignRules keep programs of the other ABI of this machine (i386, 32-bit ARM) off the network: their calls have other
// numbers and layouts, and one that slips by would leave through the network of this host.
func foreignRules() []Rule {
	f := foreignCalls
	var rs []Rule
	if f.socketcall >= 0 {
		rs = append(rs, Deny(f.socketcall, unix.EAFNOSUPPORT))
	}
	rs = append(rs,
		Deny(f.socket, unix.EAFNOSUPPORT, Equal(0, unix.AF_INET)),
		Deny(f.socket, unix.EAFNOSUPPORT, Equal(0, unix.AF_INET6)))
	for _, nr := range f.leave {
		rs = append(rs, Deny(nr, unix.ENETUNREACH))
	}
	return append(rs, Deny(unix.SYS_IO_URING_SETUP, unix.ENOSYS)) // the number is the same everywhere
}

// abi names the calls of a foreign ABI that could reach the network; -1: there is no such call.
type abi struct {
	socketcall, socket int
	leave              []int // connect, sendto, sendmsg, sendmmsg: a socket may be inherited from a native parent
}

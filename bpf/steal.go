// Package bpf holds the programs that run in the kernel, each with its one caller in Go. It pins nothing: all of it ends with the descriptors
// that this process holds.
package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

//go:generate go tool bpf2go -target bpfel -tags linux -output-stem steal -type upstream -type client -cflags "-Wall -Werror -mcpu=v3 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" steal steal.c

// Family says which of the two listeners of a Steal is meant.
type Family uint32

// The families, as steal.c counts them.
const (
	IPv4 Family = iota
	IPv6
)

// ErrTaken says that another agent is there already. Two would pass their connections to each other until one runs out of descriptors.
var ErrTaken = errors.New("another agent steals here already")

// ErrFull says that a table of the program has no room for one more entry.
var ErrFull = errors.New("table full")

// Steal is steal.c, loaded: it sends new connections of claimed ports to listeners, passes those that are known to be the agent's own, and lets the
// original see for whom they are. As long as Beat is not called, it passes everything. It is safe for concurrent use, DetachNetns, Detach and Close excepted.
type Steal struct {
	objs   stealObjects
	lookup link.Link   // nil: not attached
	links  []link.Link // of cgroups
	close  sync.Once
}

// OpenSteal loads the program for the network namespace with the given cookie (0: unknown, no address is ever restored). Nothing is attached yet.
func OpenSteal(netnsCookie uint64) (*Steal, error) {
	if err := rlimit.RemoveMemlock(); err != nil { // before 5.11 maps count as locked memory
		return nil, fmt.Errorf("load steal: %w", explain(err))
	}
	spec, err := loadSteal()
	if err != nil {
		return nil, fmt.Errorf("load steal: %w", err)
	}
	if err := spec.Variables["target_netns"].Set(netnsCookie); err != nil {
		return nil, fmt.Errorf("load steal: %w", err)
	}
	var s Steal
	if err := spec.LoadAndAssign(&s.objs, nil); err != nil {
		return nil, fmt.Errorf("load steal: %w", explain(err))
	}
	return &s, nil
}

// explain is asked after something has failed, never before.
func explain(err error) error {
	switch {
	case errors.Is(features.HaveProgramType(ebpf.SkLookup), ebpf.ErrNotSupported):
		return fmt.Errorf("sk_lookup needs Linux 5.9: %w", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("needs CAP_BPF and CAP_NET_ADMIN: %w", err)
	}
	return err
}

// SetListener names the socket that takes connections of a family. It leaves by itself when it is closed.
func (s *Steal) SetListener(f Family, fd uintptr) error {
	if err := s.objs.Listeners.Put(uint32(f), uint64(fd)); err != nil {
		return fmt.Errorf("set listener: %w", err)
	}
	return nil
}

// AttachNetns puts the program into the lookup of listening sockets of a namespace. Claimed ports are ours after this call. It fails with ErrTaken
// when another agent was faster.
func (s *Steal) AttachNetns(fd int) error {
	l, err := link.AttachNetNs(fd, s.objs.StealLookup)
	if err != nil {
		return fmt.Errorf("attach sk_lookup: %w", explain(err))
	}
	if err := first(l, fd); err != nil {
		return fmt.Errorf("attach sk_lookup: %w", errors.Join(err, l.Close()))
	}
	s.lookup = l
	return nil
}

// first reports, as an error, that a program of ours runs in the namespace before the one of l. Looking at it needs CAP_SYS_ADMIN; without, we trust.
func first(l link.Link, netns int) error {
	own, err := l.Info()
	if err != nil {
		return err
	}
	all, err := link.QueryPrograms(link.QueryOptions{Target: netns, Attach: ebpf.AttachSkLookup})
	if err != nil {
		return err
	}
	for _, p := range all.Programs { // in the order in which they run
		if p.ID == own.Program {
			return nil
		}
		if name, err := programName(p.ID); err == nil && name == stealProgStealLookup {
			return ErrTaken
		}
	}
	return nil
}

func programName(id ebpf.ProgramID) (string, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return "", err
	}
	i, err := p.Info()
	if err := errors.Join(err, p.Close()); err != nil {
		return "", err
	}
	return i.Name, nil
}

// AttachCgroup lets all sockets that were made in the cgroup (v2, by path) or below it see clients instead of the agent.
func (s *Steal) AttachCgroup(path string) error {
	var both []link.Link
	for _, at := range []struct {
		typ  ebpf.AttachType
		prog *ebpf.Program
	}{
		{ebpf.AttachCgroupInet4GetPeername, s.objs.StealPeer4},
		{ebpf.AttachCgroupInet6GetPeername, s.objs.StealPeer6},
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: path, Attach: at.typ, Program: at.prog})
		if err != nil {
			return fmt.Errorf("attach getpeername to cgroup %s: %w", path, errors.Join(explain(err), closeLinks(both)))
		}
		both = append(both, l)
	}
	s.links = append(s.links, both...)
	return nil
}

// Claim makes new connections to a port go to the listeners. Claiming it again changes nothing.
func (s *Steal) Claim(port uint16) error {
	if err := s.objs.Claims.Put(port, uint8(1)); err != nil {
		return fmt.Errorf("claim port %d: %w", port, tellFull(err))
	}
	return nil
}

// Release gives new connections to a port back to the original. Releasing what is not claimed changes nothing.
func (s *Steal) Release(port uint16) error {
	if err := s.objs.Claims.Delete(port); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("release port %d: %w", port, err)
	}
	return nil
}

// Pass announces a connection from the agent's address src to the original's port dialled: it is not to be stolen, and to be shown as client's.
// It fails with ErrFull when too many are open already.
func (s *Steal) Pass(src netip.AddrPort, dialled uint16, client netip.AddrPort) error {
	if err := s.objs.Passed.Put(upstream(src, dialled), stealClient{Addr: words(client.Addr()), Port: bigEndian(client.Port())}); err != nil {
		return fmt.Errorf("pass from %s: %w", src, tellFull(err))
	}
	return nil
}

// Forget takes back what Pass announced, if it is there.
func (s *Steal) Forget(src netip.AddrPort, dialled uint16) error {
	if err := s.objs.Passed.Delete(upstream(src, dialled)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget %s: %w", src, err)
	}
	return nil
}

// MaxPassed tells how many connections can be announced at once.
func (s *Steal) MaxPassed() int { return int(s.objs.Passed.MaxEntries()) }

// CountPassed tells how many connections are announced.
func (s *Steal) CountPassed() (int, error) {
	var (
		key    stealUpstream
		client stealClient
		n      int
	)
	it := s.objs.Passed.Iterate()
	for it.Next(&key, &client) {
		n++
	}
	return n, it.Err()
}

func tellFull(err error) error {
	if errors.Is(err, unix.E2BIG) {
		return ErrFull
	}
	return err
}

// upstream leaves the zone out: the kernel compares addresses here, and the port makes them unique.
func upstream(src netip.AddrPort, dialled uint16) stealUpstream {
	return stealUpstream{Addr: words(src.Addr()), Port: bigEndian(src.Port()), Dialled: dialled}
}

// words gives an address as the kernel keeps it, IPv4 as v4-mapped.
func words(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

func bigEndian(port uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(port >> 8), byte(port)})
}

// Beat tells the program that the agent is well. It passes everything when that is more than 500 ms ago.
func (s *Steal) Beat() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil { // what bpf_ktime_get_ns reads
		return fmt.Errorf("beat: %w", err)
	}
	if err := s.objs.BeatNs.Set(uint64(now.Nano())); err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	return nil
}

// Rest takes the last Beat back: everything passes at once, until the next.
func (s *Steal) Rest() error {
	if err := s.objs.BeatNs.Set(uint64(0)); err != nil {
		return fmt.Errorf("rest: %w", err)
	}
	return nil
}

// DetachNetns undoes AttachNetns: another agent may attach. It is safe to call twice.
func (s *Steal) DetachNetns() error {
	if s.lookup == nil {
		return nil
	}
	err := s.lookup.Close()
	s.lookup = nil
	return err
}

// Detach undoes AttachNetns and AttachCgroup, what was attached last first. It is safe to call twice.
func (s *Steal) Detach() error {
	err := errors.Join(s.DetachNetns(), closeLinks(s.links))
	s.links = nil
	return err
}

// Close detaches everything and frees it. It is safe to call twice.
func (s *Steal) Close() error {
	var err error
	s.close.Do(func() { err = errors.Join(s.Detach(), s.objs.Close()) })
	return err
}

func closeLinks(links []link.Link) error {
	var errs []error
	for i := len(links) - 1; i >= 0; i-- {
		errs = append(errs, links[i].Close())
	}
	return errors.Join(errs...)
}

package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

func mustOpenSteal(tb testing.TB) *Steal {
	tb.Helper()
	testnet.RequireRoot(tb)
	s, err := OpenSteal(1)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for range 2 { // safe twice
			if err := s.Close(); err != nil {
				tb.Error(err)
			}
		}
	})
	return s
}

func TestMissingRightsAreNamed(t *testing.T) {
	testnet.RequireRoot(t)
	// Rights belong to threads: this one is given up with its goroutine, as it never unlocks.
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		s, err := OpenSteal(1)
		if err == nil {
			s.Close()
		}
		done <- err
	}()
	err := <-done
	if !errors.Is(err, unix.EPERM) || !strings.HasPrefix(err.Error(), "load steal: needs CAP_BPF and CAP_NET_ADMIN: ") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyNamespacesAndCgroupsAreAttachedTo(t *testing.T) {
	s := mustOpenSteal(t)
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.AttachNetns(int(f.Fd())); err == nil {
		t.Error("attached to /dev/null as a namespace")
	}
	if err := s.AttachCgroup(t.TempDir()); err == nil || len(s.links) > 0 {
		t.Errorf("attached to a folder as a cgroup: %v", err)
	}
}

func TestClosedStealLeavesNothing(t *testing.T) {
	h := testnet.Lone(t)
	g := testnet.NewCgroup(t, "")
	s := mustOpenSteal(t)
	if err := s.AttachCgroup(g.Path); err != nil {
		t.Fatal(err)
	}
	if err := s.AttachNetns(h.NS.Fd()); err != nil {
		t.Fatal(err)
	}
	census, err := TakeCensus(h.NS.ID().Ino)
	if err != nil {
		t.Fatal(err)
	}
	if len(census.Links) != 3 || len(census.Programs) != 3 || len(census.Maps) != 5 {
		t.Errorf("census: %+v", census)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := TakeCensus(h.NS.ID().Ino)
	if err != nil || !after.Empty() {
		t.Errorf("left: %+v, %v", after, err)
	}
}

func TestClaimsArePlentyButBounded(t *testing.T) {
	s := mustOpenSteal(t)
	limit := int(s.objs.Claims.MaxEntries())
	for p := range limit {
		if err := s.Claim(uint16(p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Claim(uint16(limit)); !errors.Is(err, ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	for range 2 {
		if err := s.Release(0); err != nil {
			t.Error(err)
		}
	}
}

func TestPassedConnectionsArePlentyButBounded(t *testing.T) {
	s := mustOpenSteal(t)
	client := netip.MustParseAddrPort("198.18.7.1:7777")
	src := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 83, byte(i >> 8), byte(i)}), uint16(40000+i>>16))
	}
	for i := range s.MaxPassed() {
		if err := s.Pass(src(i), 8080, client); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if err := s.Pass(src(s.MaxPassed()), 8080, client); !errors.Is(err, ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	for range 2 {
		if err := s.Forget(src(0), 8080); err != nil {
			t.Error(err)
		}
	}
	if n, err := s.CountPassed(); n != s.MaxPassed()-1 || err != nil {
		t.Errorf("%d entries, %v", n, err)
	}
}

func TestAddressesAreWhatTheKernelCompares(t *testing.T) {
	for in, want := range map[string]string{
		"127.83.1.2:4660":       "00000000000000000000ffff7f530102 1234",
		"[fe80::1:2%eth0]:4660": "fe800000000000000000000000010002 1234",
	} {
		u := upstream(netip.MustParseAddrPort(in), 80)
		var ip [16]byte
		for i, w := range u.Addr {
			for j := range 4 {
				ip[4*i+j] = byte(w >> (8 * j)) // the objects are little-endian
			}
		}
		if got := fmt.Sprintf("%x %x", ip, []byte{byte(u.Port), byte(u.Port >> 8)}); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

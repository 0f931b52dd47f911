package netns

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestResidentsWorkInsideAndEndWithClose(t *testing.T) {
	ns := mustNew(t)
	if err := ns.Reside(); err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	for range 100 {
		work.Go(func() {
			var inside ID
			err := ns.Do(func() error { inside = threadNS(t); return unix.ENOTTY })
			if inside != ns.ID() || !errors.Is(err, unix.ENOTTY) {
				t.Errorf("ran in %v with %v, not in %v", inside, err, ns.ID())
			}
		})
	}
	work.Wait()
	if n := threadsInside(t, ns); n != residentThreads {
		t.Errorf("%d threads inside, want %d", n, residentThreads)
	}
	if err := ns.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ns.Do(func() error { return nil }); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestResidentsNeedNoRight runs itself without CAP_SYS_ADMIN, once inside and once outside of what it may enter.
func TestResidentsNeedNoRight(t *testing.T) {
	if os.Getenv("MAGPIE_TEST_POWERLESS") == "" {
		mustNew(t) // root
		test := exec.Command(os.Args[0], "-test.run=^TestResidentsNeedNoRight$", "-test.v")
		test.Env = append(os.Environ(), "MAGPIE_TEST_POWERLESS=1")
		out, err := test.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	other, own := mustNew(t), mustOwn(t)
	if err := other.Reside(); err != nil {
		t.Fatal(err)
	}
	foreign := mustNew(t)
	mustDropAll(t)
	if err := own.Reside(); err != nil {
		t.Errorf("own namespace: %v", err)
	}
	for _, ns := range []*NS{other, own} {
		var inside ID
		if err := ns.Do(func() error { inside = threadNS(t); return nil }); err != nil || inside != ns.ID() {
			t.Errorf("in %v: %v", inside, err)
		}
	}
	if err := foreign.Do(func() error { return nil }); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("entered a namespace without a right to: %v", err)
	}
}

func mustOwn(tb testing.TB) *NS {
	tb.Helper()
	ns, err := Own()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ns.Close() })
	return ns
}

// mustDropAll takes every capability from every thread of the process.
func mustDropAll(tb testing.TB) {
	tb.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0); errno != 0 {
		tb.Fatal(errno)
	}
}

func BenchmarkDoOnResidents(b *testing.B) {
	ns := mustNew(b)
	if err := ns.Reside(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := ns.Do(func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

package netns

import (
	"errors"
	"fmt"
	"io/fs"

	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The builder in internal/testnet stands on this package, so its own tests do without.
func mustNew(tb testing.TB) *NS {
	tb.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("MAGPIE_NO_SKIP") == "1" {
			tb.Fatal("needs root")
		}
		tb.Skip("needs root")
	}
	ns, err := New()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ns.Close() })
	return ns
}

func threadNS(tb testing.TB) ID {
	tb.Helper()
	ns, err := open(ofThread, "own")
	if err != nil {
		tb.Fatal(err)
	}
	defer ns.Close()
	return ns.ID()
}

func TestDoRunsInsideAndLeavesTheCallerWhereHeWas(t *testing.T) {
	ns := mustNew(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadNS(t)
	if before == ns.ID() {
		t.Fatal("a new namespace is our own")
	}
	var inside ID
	if err := ns.Do(func() error { inside = threadNS(t); return nil }); err != nil {
		t.Fatal(err)
	}
	if inside != ns.ID() {
		t.Errorf("inside %v, want %v", inside, ns.ID())
	}
	if after := threadNS(t); after != before {
		t.Errorf("caller moved from %v to %v", before, after)
	}
}

func TestNoThreadIsLeftInside(t *testing.T) {
	ns := mustNew(t)
	for range 50 {
		if err := ns.Do(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if n := threadsInside(t, ns); n != 0 {
		t.Errorf("%d threads left inside", n)
	}
}

func threadsInside(tb testing.TB, ns *NS) int {
	tb.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		tb.Fatal(err)
	}
	var n int
	for _, task := range tasks {
		if link, err := os.Readlink(task); err == nil && link == ns.ID().String() {
			n++
		}
	}
	return n
}

func TestDoGivesBackTheErrorAndSurvivesGoexit(t *testing.T) {
	ns := mustNew(t)
	if err := ns.Do(func() error { return syscall.ECONNREFUSED }); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
	if err := ns.Do(func() error { runtime.Goexit(); return nil }); !errors.Is(err, errLeft) {
		t.Errorf("got %v, want %v", err, errLeft)
	}
	if n := threadsInside(t, ns); n != 0 {
		t.Errorf("%d threads left inside", n)
	}
}

func TestCookiesTellNamespacesApart(t *testing.T) {
	a, b := mustNew(t), mustNew(t)
	ca, err := a.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	cb, err := b.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	if ca == cb || a.ID() == b.ID() {
		t.Errorf("%v %d and %v %d", a.ID(), ca, b.ID(), cb)
	}
}

func TestOfPIDFindsTheNamespaceOfAProcess(t *testing.T) {
	ns := mustNew(t)
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := ns.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	got, err := OfPID(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if got.ID() != ns.ID() {
		t.Errorf("got %v, want %v", got.ID(), ns.ID())
	}
}

func TestNamedTakesARootBeforeThePath(t *testing.T) {
	ns := mustNew(t)
	root := t.TempDir()
	dir := filepath.Join(root, "run/netns")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "shop")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Named(root, "shop"); !errors.Is(err, errNotNetns) {
		t.Errorf("a plain file: got %v, want %v", err, errNotNetns)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), file, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(file, unix.MNT_DETACH)
	got, err := Named(root, "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if got.ID() != ns.ID() || got.String() != "netns/shop" {
		t.Errorf("got %v %v, want %v", got, got.ID(), ns.ID())
	}
}

func TestOpenSaysWhatIsNotThere(t *testing.T) {
	if _, err := Named("", "magpie-no-such"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such name: %v", err)
	}
	for _, name := range []string{"", ".", "..", "../../proc/self/ns/net", "a/b"} {
		if _, err := Named("", name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if _, err := OfPID(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such pid: %v", err)
	}
}

func TestCloseIsSafeTwice(t *testing.T) {
	ns := mustNew(t)
	for range 2 {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := ns.Do(func() error { return nil }); err == nil {
		t.Error("entered a closed namespace")
	}
}

func BenchmarkDo(b *testing.B) {
	ns := mustNew(b)
	for b.Loop() {
		if err := ns.Do(func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

package target

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// mustRooted finds a target and gives it a root directory of the test's.
func mustRooted(tb testing.TB, root string) *Target {
	tb.Helper()
	found := mustFind(tb, "pid/"+strconv.Itoa(mustStart(tb, testnet.Lone(tb), original(tb, "nowhere"))))
	found.root.Close()
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	found.root = dir
	return found
}

// mustVolume makes a folder as the kubelet mounts a Secret.
func mustVolume(tb testing.TB, root string) {
	tb.Helper()
	volume := filepath.Join(root, "etc/tls")
	if err := os.MkdirAll(filepath.Join(volume, "..2026_11_21"), 0o755); err != nil {
		tb.Fatal(err)
	}
	mustWriteFile(tb, filepath.Join(volume, "..2026_11_21/tls.crt"), "certificate")
	mustLink(tb, "..2026_11_21", filepath.Join(volume, "..data"))
	mustLink(tb, "..data/tls.crt", filepath.Join(volume, "tls.crt"))
}

func mustLink(tb testing.TB, to, at string) {
	tb.Helper()
	if err := os.Symlink(to, at); err != nil {
		tb.Fatal(err)
	}
}

func TestFilesOfTheTargetAreRead(t *testing.T) {
	root := t.TempDir()
	found := mustRooted(t, root)
	mustVolume(t, root)
	for path, max := range map[string]int64{"/etc/tls/tls.crt": 100, "/etc/tls/..data/tls.crt": int64(len("certificate"))} {
		if b, err := found.ReadFile(path, max); string(b) != "certificate" || err != nil {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	// As the kubelet renews it: another folder, and one rename.
	volume := filepath.Join(root, "etc/tls")
	if err := os.Mkdir(filepath.Join(volume, "..2026_11_22"), 0o755); err != nil {
		t.Fatal(err)
	}
	mustWriteFile(t, filepath.Join(volume, "..2026_11_22/tls.crt"), "renewed")
	mustLink(t, "..2026_11_22", filepath.Join(volume, "..data_tmp"))
	if err := os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")); err != nil {
		t.Fatal(err)
	}
	if b, err := found.ReadFile("/etc/tls/tls.crt", 100); string(b) != "renewed" || err != nil {
		t.Errorf("renewed: %q, %v", b, err)
	}
}

func TestWhatIsNoFileOfTheTargetIsNotRead(t *testing.T) {
	root := t.TempDir()
	found := mustRooted(t, root)
	mustVolume(t, root)
	outside := filepath.Join(t.TempDir(), "secret")
	mustWriteFile(t, outside, "outside")
	mustLink(t, outside, filepath.Join(root, "absolute"))
	mustLink(t, "../../../../../../../../.."+outside, filepath.Join(root, "dots"))
	mustLink(t, "loop", filepath.Join(root, "loop"))
	for path, want := range map[string]error{
		"/absolute": fs.ErrNotExist, "/dots": fs.ErrNotExist, "/proc/self/environ": fs.ErrNotExist, "": fs.ErrNotExist,
		"/loop": syscall.ELOOP, "/etc/tls/tls.crt/key": syscall.ENOTDIR,
	} {
		if b, err := found.ReadFile(path, 100); !errors.Is(err, want) {
			t.Errorf("%s: %q, %v; want %v", path, b, err, want)
		}
	}
}

// TestAnAgentInItsPlaceReadsWhatRootOwns is under the rights that agent.Confine leaves.
func TestAnAgentInItsPlaceReadsWhatRootOwns(t *testing.T) {
	root := t.TempDir()
	found := mustRooted(t, root)
	for name, c := range map[string]struct {
		owner int
		mode  os.FileMode
	}{"roots": {0, 0o400}, "open": {1000, 0o444}, "closed": {1000, 0o400}} {
		path := filepath.Join(root, name)
		mustWriteFile(t, path, name)
		if err := errors.Join(os.Chown(path, c.owner, c.owner), os.Chmod(path, c.mode)); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]error{}
	err := onThread(func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		kept := [2]unix.CapUserData{1: {Effective: 1 << (unix.CAP_BPF - 32), Permitted: 1 << (unix.CAP_BPF - 32)}}
		if err := unix.Capset(&header, &kept[0]); err != nil { // of this thread, which ends with the test
			return err
		}
		for _, name := range []string{"roots", "open", "closed"} {
			_, got[name] = found.ReadFile("/"+name, 100)
		}
		return nil
	})
	if err != nil || got["roots"] != nil || got["open"] != nil {
		t.Errorf("%v: %v", err, got)
	}
	var told *Error
	if !errors.As(got["closed"], &told) || !errors.Is(told, fs.ErrPermission) || !strings.Contains(told.Hint(), "Secret") {
		t.Errorf("a closed file: %v", got["closed"])
	}
}

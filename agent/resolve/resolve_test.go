package resolve

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// dir is a target whose files are in a directory.
type dir struct {
	path string
	host func() (string, error)
}

func (d dir) Open(path string) (*os.File, error) {
	return os.OpenFile(filepath.Join(d.path, path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func (d dir) Hostname() (string, error) { return d.host() }

// mustTarget makes a target with these files.
func mustTarget(tb testing.TB, files map[string]string) dir {
	tb.Helper()
	d := dir{tb.TempDir(), func() (string, error) { return "shop-0", nil }}
	if err := os.Mkdir(filepath.Join(d.path, "etc"), 0o755); err != nil {
		tb.Fatal(err)
	}
	for path, content := range files {
		if err := os.WriteFile(filepath.Join(d.path, path), []byte(content), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return d
}

func TestFilesComeAsTheyAre(t *testing.T) {
	n, err := Read(mustTarget(t, map[string]string{
		"etc/resolv.conf": "search shop.svc\nnameserver 10.96.0.10\noptions ndots:5\n", "etc/hosts": "10.0.0.7 shop-0\n", "etc/nsswitch.conf": "",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if string(n.ResolvConf) != "search shop.svc\nnameserver 10.96.0.10\noptions ndots:5\n" || string(n.Hosts) != "10.0.0.7 shop-0\n" || n.Hostname != "shop-0" {
		t.Errorf("%q", n)
	}
	if len(n.Nsswitch) != 0 {
		t.Errorf("an empty file is no missing one: %q", n.Nsswitch)
	}
}

func TestMissingFilesHaveTheDefaultsOfACLibrary(t *testing.T) {
	d := mustTarget(t, nil)
	// A link that leads nowhere is what a container without systemd-resolved has.
	if err := os.Symlink("../run/systemd/resolve/stub-resolv.conf", filepath.Join(d.path, "etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	n, err := Read(d)
	if err != nil {
		t.Fatal(err)
	}
	if string(n.ResolvConf) != noResolvConf || string(n.Hosts) != noHosts || string(n.Nsswitch) != noNsswitch {
		t.Errorf("%q", n)
	}
	empty := dir{t.TempDir(), d.host}
	if n, err = Read(empty); err != nil || string(n.Hosts) != noHosts {
		t.Errorf("without /etc: %q, %v", n, err)
	}
}

func TestWhatCannotBeReadIsAnError(t *testing.T) {
	tooLong := mustTarget(t, map[string]string{"etc/hosts": string(make([]byte, maxFile+1))})
	if _, err := Read(tooLong); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("too long: %v; want EFBIG", err)
	}
	fifo := mustTarget(t, nil)
	if err := syscall.Mkfifo(filepath.Join(fifo.path, "etc/hosts"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(fifo); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("fifo: %v; want EINVAL", err)
	}
	nameless := mustTarget(t, nil)
	nameless.host = func() (string, error) { return "", fs.ErrPermission }
	if _, err := Read(nameless); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("host name: %v; want ErrPermission", err)
	}
}

package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestFilesOfTheTargetAreReadWithinBounds(t *testing.T) {
	here, err := Find(fmt.Sprintf("pid/%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// As a volume with a Secret is laid out: links within the folder.
	must(os.MkdirAll(filepath.Join(dir, "..2026"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "..2026", "tls.crt"), []byte("certificate"), 0o644))
	must(os.Symlink("..2026", filepath.Join(dir, "..data")))
	must(os.Symlink("..data/tls.crt", filepath.Join(dir, "tls.crt")))
	must(syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644))

	if b, err := here.ReadFile(filepath.Join(dir, "tls.crt"), 11); err != nil || string(b) != "certificate" {
		t.Errorf("%q, %v", b, err)
	}
	for path, want := range map[string]string{
		"tls.crt": "it has more than 10 bytes",
		"fifo":    "it is no regular file",
		"":        "it is no regular file",
		"nothing": "no such file",
	} {
		if _, err := here.ReadFile(filepath.Join(dir, path), 10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := here.ReadFile(filepath.Join(dir, "nothing"), 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

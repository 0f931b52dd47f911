package layer_test

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// pathLines is what paths.c prints of a read-only file that begins with this line.
func pathLines(line string) []string {
	var lines []string
	for _, what := range []string{"open", "openat", "openat with a folder", "openat of an absolute path ignores the folder", "openat2",
		"openat2 beneath a folder", "with // and .", "with ..", "relative to the working folder", "relative with ./", "relative to /"} {
		lines = append(lines, what+": "+line)
	}
	lines = append(lines, "mmap: "+line[:10], "close-on-exec: not set, set")
	for _, what := range []string{"stat", "lstat"} {
		lines = append(lines, what+": ok, the same file")
	}
	lines = append(lines, "access: ok", "access to write: EROFS", "readlink: EINVAL")
	for _, what := range []string{"newfstatat", "newfstatat with a folder", "statx"} {
		lines = append(lines, what+": ok, the same file")
	}
	return append(lines, "faccessat: ok", "faccessat2: ok", "readlinkat: EINVAL", "a bad buffer: EFAULT",
		"open to write: EROFS", "open to truncate: EROFS", "open to create anew: EEXIST", "open as a folder: ENOTDIR", "creat: EROFS",
		"and after all that: "+line, "a neighbour: ok", "nothing there: ENOENT")
}

func TestThePodsFilesAreSeenInEverySpelling(t *testing.T) {
	w := mustWorld(t)
	for name, content := range podFiles {
		t.Run(path.Base(name), func(t *testing.T) {
			line, _, _ := strings.Cut(string(content), "\n")
			l := w.mustStart(t, pathProbes.command(t, name))
			l.expect(t, pathLines(line)...)
			l.mustEnd(t, 0)
		})
	}
}

// On most machines /etc/resolv.conf is a link to what a daemon writes, and some programs open that.
func TestFileBehindALinkIsThePodsToo(t *testing.T) {
	w := mustWorld(t)
	dir := mustFolder(t)
	for name, content := range map[string]string{"real/stub.conf": "the host's\n", "real/other.conf": "another\n"} {
		if err := os.MkdirAll(filepath.Join(dir, path.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"resolv.conf": "real/stub.conf", "etc": "."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	l := w.mustStart(t, shell.command(t, `cd "$0"; cat resolv.conf real/stub.conf etc/resolv.conf etc/etc/real/../resolv.conf real/other.conf
		test -L resolv.conf || echo no link; test -w resolv.conf || echo not to write; (echo mine >resolv.conf) 2>/dev/null || echo not written
		cat real/stub.conf & wait; cd real && cat ../resolv.conf`, dir),
		func(sv *supervision) {
			sv.Files = map[string][]byte{filepath.Join(dir, "resolv.conf"): []byte("the pod's\n")}
		})
	l.expect(t, "the pod's", "the pod's", "the pod's", "the pod's", "another", "no link", "not to write", "not written", "the pod's", "the pod's")
	l.mustEnd(t, 0)
	if b, err := os.ReadFile(filepath.Join(dir, "real/stub.conf")); string(b) != "the host's\n" {
		t.Errorf("the host's file now says %q, %v", b, err)
	}
}

func TestOpenIsNotStarvedBySignals(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStart(t, pythonCalls(`
before = os.listdir("/proc/self/fd")
alarm(0.0005, 0.0005, restart=True)
for _ in range(1000):
    with open("/etc/hosts") as f:
        assert f.readline() == "127.0.0.1 localhost\n"
    assert os.stat("/etc/hosts").st_size > 20
signal.setitimer(signal.ITIMER_REAL, 0)
say(os.listdir("/proc/self/fd") == before)`))
	l.expect(t, "True") // no open was done twice
	l.mustEnd(t, 0)
}

package testnet

import (
	"bufio"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroup is a cgroup v2 of the test's own. It is gone when the test ends, and so are the processes in it.
type Cgroup struct {
	Path string
}

// NewCgroup makes a cgroup below the one at parent; "" stands for the root of the host's cgroup v2 tree.
func NewCgroup(tb testing.TB, parent string) *Cgroup {
	tb.Helper()
	RequireRoot(tb)
	if parent == "" {
		parent = cgroupRoot(tb)
	}
	g := &Cgroup{Path: filepath.Join(parent, "magpie-test-"+strings.ToLower(rand.Text()[:10]))}
	if err := os.Mkdir(g.Path, 0o755); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { g.remove(tb) })
	return g
}

// Put sees to it that cmd starts inside the cgroup: no socket of it is older than its membership.
func (g *Cgroup) Put(tb testing.TB, cmd *exec.Cmd) {
	tb.Helper()
	dir, err := os.Open(g.Path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { dir.Close() })
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = int(dir.Fd())
}

// remove kills what is left inside, as a cgroup can only be removed when it is empty.
func (g *Cgroup) remove(tb testing.TB) {
	tb.Helper()
	const patience, pause = 5 * time.Second, time.Millisecond
	if err := os.WriteFile(filepath.Join(g.Path, "cgroup.kill"), []byte("1"), 0); err != nil {
		tb.Errorf("empty cgroup: %v", err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		err := unix.Rmdir(g.Path)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			tb.Errorf("remove cgroup %s: %v", g.Path, err)
			return
		}
	}
}

// cgroupRoot finds the cgroup v2 tree: all of /sys/fs/cgroup, or a part of it on a host that also has v1.
func cgroupRoot(tb testing.TB) string {
	tb.Helper()
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1]
		}
	}
	tb.Fatal("no cgroup v2 is mounted")
	return ""
}

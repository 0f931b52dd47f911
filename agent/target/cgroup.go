package target

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupOf finds the directory of the nearest cgroup v2 that holds all these processes, or says why there is none.
func cgroupOf(all []*process) (dir, missing string) {
	if len(all) == 0 {
		return "", "no process runs there"
	}
	common, found := "", false
	for _, p := range all {
		b, err := p.read("cgroup")
		if err != nil {
			continue // it ended
		}
		path, ok := unifiedPath(b)
		switch {
		case !ok:
			return "", "this host has no cgroup v2"
		case strings.HasPrefix(path, "/.."):
			return "", "our own cgroup namespace hides the target's cgroup"
		case !found:
			common, found = path, true
		default:
			common = ancestor(common, path)
		}
	}
	if !found {
		return "", "its processes ended just now"
	}
	for _, viewer := range []string{"self", "1"} {
		if dir, ok := inMount(viewer, common); ok {
			return dir, ""
		}
	}
	return "", "cgroup v2 is not mounted"
}

// unifiedPath finds the v2 line in a proc_pid_cgroup file, cgroups(7).
func unifiedPath(b []byte) (string, bool) {
	for line := range bytes.Lines(b) {
		if path, ok := bytes.CutPrefix(line, []byte("0::")); ok {
			// A process keeps a cgroup that was removed since.
			return strings.TrimSuffix(strings.TrimSuffix(string(path), "\n"), " (deleted)"), true
		}
	}
	return "", false
}

// ancestor returns the longest path that both are at or below.
func ancestor(a, b string) string {
	for !isBelow(b, a) {
		a = filepath.Dir(a)
	}
	return a
}

func isBelow(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}

// inMount finds the directory of a cgroup in a cgroup2 mount that a process sees; that of process 1 is reached through its root directory when our
// own mount namespace has none.
func inMount(viewer, path string) (string, bool) {
	f, err := os.Open("/proc/" + viewer + "/mountinfo")
	if err != nil {
		return "", false
	}
	defer f.Close()
	root := "/"
	if viewer != "self" {
		root = "/proc/" + viewer + "/root"
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		top, at, ok := cgroup2Mount(lines.Text())
		if !ok || !isBelow(path, top) {
			continue
		}
		dir := filepath.Join(root, at, strings.TrimPrefix(path, top))
		if isCgroup2(dir) {
			return dir, true
		}
	}
	return "", false
}

// cgroup2Mount reads a line of proc_pid_mountinfo(5): what is mounted, and where.
func cgroup2Mount(line string) (top, at string, ok bool) {
	before, after, _ := strings.Cut(line, " - ")
	fields := strings.Fields(before)
	if len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
		return "", "", false
	}
	return unescape.Replace(fields[3]), unescape.Replace(fields[4]), true
}

// unescape undoes what the kernel does to paths in mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// isCgroup2 also turns away what was mounted over it.
func isCgroup2(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

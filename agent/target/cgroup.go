package target

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupOf finds the directory of the nearest cgroup v2 that holds all these processes, or says why there is none.
func cgroupOf(all []*process) (dir, missing string) {
	viewers := []string{"self", "1"}
	if len(all) == 1 {
		viewers = append(viewers, strconv.Itoa(all[0].pid)) // a container sees its own
	}
	return locate(viewers, func() (string, error) { return commonPath(all) })
}

// podCgroupOf finds the directory of the cgroup v2 of a process' pod, which holds each container that the pod has or gets; where there are no pods, of its
// container.
func podCgroupOf(p *process) (dir, missing string) {
	return locate([]string{"self", "1"}, func() (string, error) {
		path, err := commonPath([]*process{p})
		if at, ok := placeIn(path); ok && at.isPod() {
			path = at.pod
		}
		return path, err
	})
}

// errHidden says that paths of cgroups are of no use in our view. A container of cgroup v2 has a cgroup namespace of its own, as a rule, and sees others as
// /../../…
var errHidden = errors.New("our own cgroup namespace hides the target's cgroup")

// locate finds the directory of the cgroup v2 that name returns, in a mount that one of the viewers has: as we see paths, or else as process 1 does.
func locate(viewers []string, name func() (path string, err error)) (dir, missing string) {
	dir, err := locateHere(viewers, name)
	if errors.Is(err, errHidden) {
		if there := inViewOf1(func() error { dir, err = locateHere(viewers, name); return nil }); there != nil {
			err = errors.Join(err, there)
		}
	}
	if err != nil {
		return "", strings.ReplaceAll(err.Error(), "\n", ": ")
	}
	return dir, ""
}

func locateHere(viewers []string, name func() (path string, err error)) (dir string, err error) {
	path, err := name()
	if err != nil {
		return "", err
	}
	for _, viewer := range viewers {
		if dir, ok := inMount(viewer, path); ok {
			return dir, nil
		}
	}
	if isOutside(path) {
		return "", errHidden
	}
	return "", errors.New("cgroup v2 is not mounted")
}

func isOutside(path string) bool { return strings.HasPrefix(path, "/..") }

// inViewOf1 runs fn on a thread that sees cgroups as process 1 does. The kernel asks for CAP_SYS_ADMIN.
func inViewOf1(fn func() error) error {
	view, err := os.Open("/proc/1/ns/cgroup")
	if err != nil {
		return err
	}
	defer view.Close()
	return onThread(func() error {
		if err := unix.Setns(int(view.Fd()), unix.CLONE_NEWCGROUP); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return fn()
	})
}

// commonPath returns the path of the nearest cgroup v2 that holds all these processes, in our view.
func commonPath(all []*process) (string, error) {
	if len(all) == 0 {
		return "", errors.New("no process runs there")
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
			return "", errors.New("this host has no cgroup v2")
		case !found:
			common, found = path, true
		case isOutside(path) || isOutside(common):
			return "", errHidden // those cannot be compared
		default:
			common = ancestor(common, path)
		}
	}
	if !found {
		return "", errors.New("its processes ended just now")
	}
	return common, nil
}

// deleted is what the kernel adds to a cgroup that was removed; a process in it keeps it.
const deleted = " (deleted)"

// unifiedPath finds the v2 line in a proc_pid_cgroup file, cgroups(7).
func unifiedPath(b []byte) (string, bool) {
	for line := range bytes.Lines(b) {
		if path, ok := bytes.CutPrefix(line, []byte("0::")); ok {
			return strings.TrimSuffix(strings.TrimSuffix(string(path), "\n"), deleted), true
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

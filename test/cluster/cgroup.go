package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is a mounted cgroup file system. A host has one (version 2), or one for each controller of version 1, or both (hybrid).
type hierarchy struct {
	mount   string // where the host has it
	kind    string // "cgroup" or "cgroup2"
	options string // which controllers: what mount(2) wants to mount it again
}

func (h hierarchy) folder(name string) string { return filepath.Join(h.mount, cgroupName, name) }

// hierarchies reads where this machine has its cgroups (proc_pid_mountinfo(5)).
func hierarchies() ([]hierarchy, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list cgroups: %w", err)
	}
	var found []hierarchy
	for line := range strings.Lines(string(content)) {
		mount, super, ok := strings.Cut(line, " - ")
		fields, tail := strings.Fields(mount), strings.Fields(super)
		if !ok || len(fields) < 5 || len(tail) < 3 || !strings.HasPrefix(tail[0], "cgroup") {
			continue
		}
		h := hierarchy{mount: fields[4], kind: tail[0]}
		if h.kind == "cgroup" {
			options := slices.DeleteFunc(strings.Split(tail[2], ","), func(o string) bool { return o == "rw" || o == "ro" })
			h.options = strings.Join(options, ",")
			if strings.HasPrefix(h.options, "name=") {
				h.options = "none," + h.options
			}
		}
		same := func(o hierarchy) bool { return o.kind == h.kind && o.options == h.options } // mounted twice
		if !slices.ContainsFunc(found, same) {
			found = append(found, h)
		}
	}
	return found, nil
}

// makeCgroups makes the machine's own cgroup in each hierarchy.
func makeCgroups(name string) error {
	all, err := hierarchies()
	for _, h := range all {
		err = errors.Join(err, h.make(name))
	}
	return err
}

func (h hierarchy) make(name string) error {
	if err := os.MkdirAll(h.folder(name), 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	if h.kind == "cgroup2" {
		return errors.Join(enableControllers(h.mount), enableControllers(h.folder("")))
	}
	if h.options != "cpuset" {
		return nil
	}
	// A new cpuset is empty, and no process may enter it before it has processors and memory (cpuset(7)).
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		all, err := os.ReadFile(filepath.Join(h.mount, file))
		if err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
		for _, dir := range []string{h.folder(""), h.folder(name)} {
			if err := os.WriteFile(filepath.Join(dir, file), all, 0o644); err != nil {
				return fmt.Errorf("make cgroup: %w", err)
			}
		}
	}
	return nil
}

// enableControllers gives the folders in this one all controllers that it has itself.
func enableControllers(folder string) error {
	all, err := os.ReadFile(filepath.Join(folder, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("enable cgroup controllers: %w", err)
	}
	for name := range strings.FieldsSeq(string(all)) {
		if err := os.WriteFile(filepath.Join(folder, "cgroup.subtree_control"), []byte("+"+name), 0o644); err != nil {
			return fmt.Errorf("enable cgroup controller %s: %w", name, err)
		}
	}
	return nil
}

// joinCgroups moves a process into the machine's cgroups; what it starts from then on is born there.
func joinCgroups(name string, pid int) error {
	all, err := hierarchies()
	for _, h := range all {
		err = errors.Join(err, os.WriteFile(filepath.Join(h.folder(name), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644))
	}
	return err
}

// leaveRoot moves the machine's first process out of the root of its version 2 hierarchy. Kubelet and runc enable controllers there for
// the pods, and a folder with controllers for others may have no process itself (cgroups(7), "no internal processes").
func leaveRoot(all []hierarchy) error {
	for _, h := range all {
		if h.kind != "cgroup2" {
			continue
		}
		folder := filepath.Join(h.mount, "daemons")
		if err := os.Mkdir(folder, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
		if err := os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// clusterPIDs lists every process of the cluster, or those of one machine with pods and all. The cgroup is the one book of them: it stays
// right when `up` is killed half-way.
func clusterPIDs(name string) ([]int, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, h := range all {
		err := filepath.WalkDir(h.folder(name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return ignoreGone(err)
			}
			content, err := os.ReadFile(path)
			for field := range strings.FieldsSeq(string(content)) {
				if pid, err := strconv.Atoi(field); err == nil && pid != 0 {
					pids = append(pids, pid)
				}
			}
			return ignoreGone(err)
		})
		if err != nil {
			return nil, fmt.Errorf("list processes of the cluster: %w", err)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// ignoreGone forgives folders that vanish while we walk: pods end when they like. ENODEV is how a dying cgroup.procs says so.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// killCluster ends every process of the cluster and returns when all are gone. The first processes of the machines go with everything in
// their PID namespaces, so one round is enough but for a fork that got away.
func killCluster() error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		pids, err := clusterPIDs("")
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("end the cluster: %d processes do not die, the first is %d", len(pids), pids[0])
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// removeCgroups removes all folders of the cluster. A folder can be busy for a moment after its last process has gone.
func removeCgroups() error {
	all, err := hierarchies()
	for _, h := range all {
		err = errors.Join(err, h.remove())
	}
	return err
}

func (h hierarchy) remove() error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var folders []string
		err := filepath.WalkDir(h.folder(""), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				folders = append(folders, path)
			}
			return ignoreGone(err)
		})
		for _, folder := range slices.Backward(folders) { // children first
			err = errors.Join(err, ignoreGone(unix.Rmdir(folder)))
		}
		if !exists(h.folder("")) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
}

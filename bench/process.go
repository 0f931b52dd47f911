package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc/PID/stat: USER_HZ, which is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// process is what proc_pid_stat(5) says of one.
type process struct {
	pid, parent int
	name        string
	cpu         time.Duration // its own, all threads, and of its children that have ended
}

// processes lists all there are. Those that end meanwhile are left out.
func processes() (all []process) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		p := process{}
		p.pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
		end := bytes.LastIndexByte(stat, ')')
		p.name = string(stat[bytes.IndexByte(stat, '(')+1 : end])
		fields := bytes.Fields(stat[end+1:]) // from field 3 on
		p.parent, _ = strconv.Atoi(string(fields[1]))
		for _, f := range fields[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.Atoi(string(f))
			p.cpu += time.Duration(n) * tick
		}
		all = append(all, p)
	}
	return all
}

// cpuOf sums the CPU time of processes and of all that they have started.
func cpuOf(roots ...int) (sum time.Duration) {
	for _, p := range family(roots...) {
		sum += p.cpu
	}
	return sum
}

// childOf finds the process of a name that another one has started, itself or through others.
func childOf(root int, name string) (int, error) {
	const longest = 15 // that the kernel keeps of a name
	for _, p := range family(root) {
		if p.pid != root && p.name == name[:min(len(name), longest)] {
			return p.pid, nil
		}
	}
	return 0, fmt.Errorf("process %d has started no %s", root, name)
}

// family is processes and all that they have started.
func family(roots ...int) (members []process) {
	all := processes()
	family := map[int]bool{}
	for _, pid := range roots {
		family[pid] = true
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if family[p.parent] && !family[p.pid] {
				family[p.pid], grown = true, true
			}
		}
	}
	for _, p := range all {
		if family[p.pid] {
			members = append(members, p)
		}
	}
	return members
}

// memoryOf is the resident memory of a process in MB.
func memoryOf(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(status), "VmRSS:")
	if !found {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	return float64(kib) * 1024 / 1e6, err
}

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// state is the machine's folder on the host while it runs: pid, and the files of its root that differ from the host's.
func (m machine) state(path string) string { return filepath.Join(stateDir, m.Name, path) }

// start makes the machine's namespaces and returns when its first process is about to run in them, in its cgroups and plugged in.
// The process outlives us; `down` ends it.
func (m machine) start(p places, f *fabric) error {
	logs := p.local("logs/" + m.Name)
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	all, err := p.binaries()
	if err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	images, err := p.images()
	if err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	output, err := os.Create(filepath.Join(logs, "init.log"))
	if err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	defer output.Close()
	first := exec.Command("/proc/self/exe", "enter", m.Name, all.parts(), images, logs)
	first.Stdout, first.Stderr = output, output
	first.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWPID,
		Setsid:     true,
	}
	gate, err := first.StdinPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	defer gate.Close()
	if err := first.Start(); err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	if err := m.admit(first.Process.Pid, f); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", m.Name, err), first.Process.Kill(), first.Process.Release())
	}
	_, err = gate.Write([]byte{1})
	return err
}

// admit does what only the outside can: cgroups, and the link.
func (m machine) admit(pid int, f *fabric) error {
	if err := makeCgroups(m.Name); err != nil {
		return err
	}
	if err := joinCgroups(m.Name, pid); err != nil {
		return err
	}
	if err := f.plug(m.Name, netlink.NsPid(pid), "eth0"); err != nil {
		return err
	}
	return os.WriteFile(m.state("pid"), []byte(strconv.Itoa(pid)), 0o644)
}

var errMachineDown = errors.New("it does not run")

// pid is the machine's first process as the host sees it.
func (m machine) pid() (int, error) {
	content, err := os.ReadFile(m.state("pid"))
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", m.Name, errMachineDown)
	}
	pid, err := strconv.Atoi(string(content))
	if err != nil || unix.Kill(pid, 0) != nil {
		return 0, fmt.Errorf("find %s: %w", m.Name, errMachineDown)
	}
	return pid, nil
}

// command is a command that will run on the machine.
func (m machine) command(args ...string) (*exec.Cmd, error) {
	pid, err := m.pid()
	if err != nil {
		return nil, err
	}
	// In C because Go cannot: setns(2) refuses mount namespaces to a process with threads.
	return exec.Command("nsenter", append([]string{"-t", strconv.Itoa(pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"}, args...)...), nil
}

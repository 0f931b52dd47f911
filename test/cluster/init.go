package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// enter is how a machine's first process begins: it waits to be admitted, then takes a cgroup namespace whose root is the cgroup that it
// was moved into meanwhile. Only its own thread moves, so it starts itself anew, as the one thread that is left.
func enter(args []string) error {
	if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
		return fmt.Errorf("wait to be admitted: %w", err)
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make cgroup namespace: %w", err)
	}
	return fmt.Errorf("start init: %w", unix.Exec("/proc/self/exe", append([]string{"cluster", "init"}, args...), os.Environ()))
}

// initialize is process 1 of a machine. It makes the machine what it is, starts the supervisor, and then only waits for orphans: the
// supervisor waits for children of its own, and two who wait in one process would take each other's.
func initialize(args []string) error {
	m, ok := machineNamed(args[0])
	if !ok || len(args) != 4 {
		return fmt.Errorf("start init: unknown arguments %q", args)
	}
	self, err := os.Open("/proc/self/exe") // which is nowhere in the new root
	if err != nil {
		return fmt.Errorf("start init: %w", err)
	}
	defer self.Close()
	if err := (root{machine: m, bin: args[1], images: args[2], logs: args[3]}).mount(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(m.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := m.configureNetwork(); err != nil {
		return err
	}
	supervisor := exec.Command("/proc/self/fd/3", "supervise", m.Name)
	supervisor.Stdout, supervisor.Stderr = os.Stdout, os.Stderr
	supervisor.ExtraFiles = []*os.File{self}
	supervisor.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	if err := supervisor.Start(); err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for orphans: %w", err)
		}
		if pid == supervisor.Process.Pid {
			return errors.New("the supervisor ended")
		}
	}
}

// configureNetwork sets up the links, and the routes to the pods of the other nodes. There is no default route: nothing gets out.
func (m machine) configureNetwork() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("configure lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("configure lo: %w", err)
	}
	if err := configureLink("eth0", m.Address.String()); err != nil {
		return err
	}
	for _, other := range nodes() {
		if other == m {
			continue
		}
		pods := &net.IPNet{IP: other.Pods.Addr().AsSlice(), Mask: net.CIDRMask(other.Pods.Bits(), 32)}
		if err := netlink.RouteAdd(&netlink.Route{Dst: pods, Gw: other.Address.AsSlice()}); err != nil {
			return fmt.Errorf("add route to the pods of %s: %w", other.Name, err)
		}
	}
	if !m.isNode() {
		return nil
	}
	// The second: a Service's traffic between two pods of one node passes the bridge, and has to be seen by kube-proxy's rules there.
	for _, sysctl := range []string{"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"} {
		if err := os.WriteFile("/proc/sys/"+sysctl, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("set sysctl: %w", err)
		}
	}
	return nil
}

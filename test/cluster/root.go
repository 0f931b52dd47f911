package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Where a machine finds what the host gave it.
const (
	binDir    = "/opt/magpie/bin"
	imagesDir = "/opt/magpie/images"
	logDir    = "/var/log/magpie"
)

// root builds the file system of a machine: the host's, read through an overlay whose changes go to memory, with other /run, /sys, /proc
// and /tmp. So neither kubelet nor a pod with a hostPath can write to the host, and all of it ends with the machine.
type root struct {
	machine      machine
	bin          string // on the host
	images, logs string
}

// mount replaces the root of this mount namespace. Nothing of it reaches the host: the namespace is private first.
func (r root) mount() error {
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	cgroups, err := hierarchies() // before their mounts are out of sight
	if err != nil {
		return err
	}
	changes := r.machine.state("root")
	newRoot := filepath.Join(changes, "merged")
	if err := r.overlay(changes, newRoot); err != nil {
		return err
	}
	for source, target := range map[string]string{r.bin: binDir, r.images: imagesDir, r.logs: logDir} {
		if err := bind(source, newRoot+target, 0); err != nil {
			return err
		}
	}
	if err := bind("/dev", newRoot+"/dev", unix.MS_REC); err != nil {
		return err
	}
	if err := pivot(newRoot); err != nil {
		return err
	}
	if err := mountKernel(cgroups); err != nil {
		return err
	}
	if err := leaveRoot(cgroups); err != nil {
		return err
	}
	return maskSysctls()
}

func (r root) overlay(changes, newRoot string) error {
	if err := mountNew("tmpfs", changes, "tmpfs", "mode=755"); err != nil {
		return err
	}
	for _, dir := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(changes, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.CopyFS(filepath.Join(changes, "upper"), os.DirFS(r.machine.state("files"))); err != nil {
		return fmt.Errorf("copy the files of %s: %w", r.machine.Name, err)
	}
	if err := mount("overlay", newRoot, "overlay", 0, "lowerdir=/,upperdir="+changes+"/upper,workdir="+changes+"/work"); err != nil {
		return err
	}
	// containerd stacks overlays of its own; an overlay cannot be the upper layer of another.
	for _, dir := range []string{"/var/lib/containerd", "/var/lib/kubelet", "/run", "/tmp"} {
		if err := mountNew("tmpfs", newRoot+dir, "tmpfs", "mode=755"); err != nil {
			return err
		}
	}
	return os.Chmod(newRoot+"/tmp", os.ModeSticky|0o777)
}

// pivot makes newRoot the root and lets go of the host's. Kubelet wants its mounts to propagate into pods, so the new one is shared.
func pivot(newRoot string) error {
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // the old root is then mounted over the new one: pivot_root(2), NOTES
		return fmt.Errorf("pivot to %s: %w", newRoot, err)
	}
	if err := mountNew("proc", "/proc", "proc", ""); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the host's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// mountKernel mounts the kernel's file systems as these namespaces see them. The cgroups are mounted where the host has them.
func mountKernel(cgroups []hierarchy) error {
	if err := mountNew("sysfs", "/sys", "sysfs", ""); err != nil {
		return err
	}
	for _, h := range cgroups {
		if os.MkdirAll(h.mount, 0o755) != nil { // sysfs has no room for folders: version 1 lives on a tmpfs
			if err := mountNew("tmpfs", filepath.Dir(h.mount), "tmpfs", "mode=755"); err != nil {
				return err
			}
		}
		if err := mountNew(h.kind, h.mount, h.kind, h.options); err != nil {
			return err
		}
	}
	for kind, dir := range map[string]string{"bpf": "/sys/fs/bpf", "tracefs": "/sys/kernel/tracing"} {
		if err := mountNew(kind, dir, kind, ""); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
			return err // a kernel may be without them
		}
	}
	return nil
}

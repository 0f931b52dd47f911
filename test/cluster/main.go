// Package main is the real Kubernetes that Magpie's tests run on: etcd, a control plane and two nodes with a kubelet, containerd and
// kube-proxy each, from Debian packages and Go modules alone, in namespaces of their own. The host gets a link, an address and a route; its
// rules, sysctls and services are never touched, and `down` leaves nothing. See README.md.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

const usage = `usage: go -C test/cluster run . COMMAND

  build               the binaries and images, where they are not in the cache yet
  up                  start the cluster
  down                end it and leave nothing
  status              which machines run, and the nodes as the API server sees them
  load IMAGE.tar...   put images (docker-archive or OCI) on both nodes
  shell NAME [CMD]    a shell or a command on control, node1 or node2
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		if status, ok := err.(*exec.ExitError); ok { //nolint:errorlint // only the command of `shell`, which has said all itself
			os.Exit(status.ExitCode())
		}
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
		if h, ok := errors.AsType[interface {
			error
			Hint() string
		}](err); ok {
			fmt.Fprintf(os.Stderr, "hint: %s\n", h.Hint())
		}
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errUsage{}
	}
	// What the program calls itself for, inside the namespaces that it made: the caller's folders are not there.
	switch args[0] {
	case "enter":
		return enter(args[1:])
	case "init":
		return initialize(args[1:])
	case "supervise":
		return supervise(args[1:])
	}
	p, err := findPlaces()
	if err != nil {
		return err
	}
	switch args[0] {
	case "build":
		return build(p)
	case "up":
		if err := build(p); err != nil { // as the caller, so that the caches are his
			return err
		}
		return asRoot(args, func() error { return up(p) })
	case "down":
		return asRoot(args, func() error { return down(p) })
	case "status":
		return asRoot(args, func() error { return status(p) })
	case "load":
		return asRoot(args, func() error { return load(args[1:]) })
	case "shell":
		return asRoot(args, func() error { return shell(args[1:]) })
	}
	return errUsage{}
}

// asRoot runs f when we are root, else this program again through sudo. The home stays the caller's: the cache is in there.
func asRoot(args []string, f func() error) error {
	if os.Geteuid() == 0 {
		return f()
	}
	sudo, err := exec.LookPath("sudo")
	if err != nil {
		return fmt.Errorf("become root: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("become root: %w", err)
	}
	command := []string{"sudo", "-n", "env"}
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "PATH"} { // sudo has ideas of its own about these
		if value, set := os.LookupEnv(name); set {
			command = append(command, name+"="+value)
		}
	}
	command = append(command, self)
	return fmt.Errorf("become root: %w", syscall.Exec(sudo, append(command, args...), os.Environ()))
}

type errUsage struct{}

func (errUsage) Error() string { return "what to do?" }
func (errUsage) Hint() string  { return "\n" + usage }

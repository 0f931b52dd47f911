package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/netns"
)

// shortestID is how many digits name a container: what every tool prints.
const shortestID = 12

// longestID is how many digits an id has in full, for each runtime of Kubernetes and for Docker.
const longestID = 64

const containerHint = "an id is 12 to 64 hexadecimal digits, perhaps after containerd://, cri-o:// or docker://"

// containerID takes the scheme off an id as Kubernetes writes it.
func containerID(name string) (string, error) {
	id := name
	if _, rest, ok := strings.Cut(name, "://"); ok {
		id = rest
	}
	if len(id) < shortestID || len(id) > longestID || !isHex(id) {
		return "", &Error{fmt.Sprintf("%q is not a container id", name), unix.EINVAL, containerHint}
	}
	return id, nil
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func (t *Target) findContainer(name string) error {
	id, err := containerID(name)
	if err != nil {
		return err
	}
	members, err := processesOf(id)
	defer func() { closeAll(members) }()
	if err != nil {
		return err
	}
	first := slices.MinFunc(members, func(a, b *process) int { return cmp.Or(cmp.Compare(a.started, b.started), cmp.Compare(a.pid, b.pid)) })
	if t.place, err = first.place(); err != nil {
		return first.orDead(err)
	}
	if t.NS, err = netns.OfPID(first.pid); err != nil {
		return first.orDead(err)
	}
	if err := t.mayEnter(); err != nil {
		return err
	}
	members = onlyIn(t.NS, members)
	if t.process = t.speaker(members); t.process == nil {
		return errDied
	}
	if err := t.lookInside(); err != nil {
		return err
	}
	t.Cgroup, t.CgroupMissing = podCgroupOf(t.process)
	return t.process.orDead(nil)
}

// processesOf returns the processes of a container. The caller closes them.
func processesOf(id string) (members []*process, err error) {
	full := ""
	err = eachPlace(func(pid int, at place) error {
		if !strings.HasPrefix(at.id, id) {
			return nil
		}
		if full != "" && full != at.id {
			return &Error{fmt.Sprintf("%s and %s both begin so", full[:shortestID+4], at.id[:shortestID+4]), unix.EINVAL, "give the whole id"}
		}
		p, err := openProcess(pid)
		if err != nil {
			return nil // it ended
		}
		full, members = at.id, append(members, p)
		return nil
	})
	if err == nil && len(members) == 0 {
		err = &Error{"no process of it runs on this machine", unix.ESRCH,
			"is it on this node, and does the agent see the node's processes (hostPID)? Containers inside a virtual machine (Kata, gVisor) cannot be entered"}
	}
	return members, err
}

// eachPlace calls fn for each process that runs in a container.
func eachPlace(fn func(pid int, at place) error) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/cgroup")
		if err != nil {
			continue // it ended
		}
		if at, ok := placeOf(b); ok {
			if err := fn(pid, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// Neighbours finds the other containers of the pod that a container is in, as far as they run and share its network namespace. The caller closes them.
func (t *Target) Neighbours() ([]*Target, error) {
	if !t.place.isPod() {
		return nil, nil
	}
	ids := map[string]bool{t.place.id: true}
	var all []*Target
	err := eachPlace(func(_ int, at place) error {
		if ids[at.id] || at.pod != t.place.pod {
			return nil
		}
		ids[at.id] = true
		n, err := Find(kindContainer + "/" + at.id)
		switch {
		case errors.Is(err, unix.ESRCH):
		case err != nil:
			return err
		case n.NS.ID() != t.NS.ID():
			return n.Close()
		default:
			all = append(all, n)
		}
		return nil
	})
	if err != nil {
		for _, n := range all {
			err = errors.Join(err, n.Close())
		}
		return nil, err
	}
	return all, nil
}

// waitDeserted returns nil when nothing runs any more in the pod, or in the container where there are no pods; or an error when ctx has ended. A container
// that is restarted leaves the pod's network namespace as it is. It needs no right.
func (t *Target) waitDeserted(ctx context.Context) error {
	for {
		oldest, err := t.oldest()
		if err != nil || oldest == nil {
			return err
		}
		err = oldest.wait(ctx)
		oldest.close()
		if err != nil {
			return err
		}
	}
}

// oldest returns the process that is likely to end last: where a pod's namespaces are kept by a process, this one.
func (t *Target) oldest() (oldest *process, err error) {
	err = eachPlace(func(pid int, at place) error {
		if pid == os.Getpid() || !at.besides(t.place) {
			return nil
		}
		p, err := openProcess(pid)
		if err != nil || !p.alive() || oldest != nil && oldest.started <= p.started {
			if err == nil {
				p.close()
			}
			return nil
		}
		if oldest != nil {
			oldest.close()
		}
		oldest = p
		return nil
	})
	return oldest, err
}

// onlyIn closes and drops the processes that are in another network namespace: a container may make some.
func onlyIn(ns *netns.NS, all []*process) []*process {
	return slices.DeleteFunc(all, func(p *process) bool {
		other := !isIn(p.pid, ns)
		if other {
			p.close()
		}
		return other
	})
}

package target

import (
	"path"
	"regexp"
	"strings"
)

// A place is where a process is among the containers of a host.
type place struct {
	id  string // of its container
	pod string // the cgroup that the container's own lies in
}

// placeOf reads a proc_pid_cgroup file, cgroups(7). Runtimes name a container's cgroup by its id:
//
//	cgroupfs  …/kubepods/burstable/podUID/ID                                 containerd, Docker
//	          …/kubepods/burstable/podUID/crio-ID                            CRI-O
//	systemd   …/kubepods-burstable-podUID.slice/cri-containerd-ID.scope      containerd
//	          …/kubepods-burstable-podUID.slice/crio-ID.scope[/container]    CRI-O
//	          …/kubepods-burstable-podUID.slice/docker-ID.scope              Docker
//	mixed     /system.slice/containerd.service/kubepods-podUID.slice:cri-containerd:ID
//
// The outermost one counts: in it, the container may run containers of its own. Which hierarchy of cgroup v1 or v2 says so does not matter.
func placeOf(file []byte) (place, bool) {
	for line := range strings.Lines(string(file)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) < 3 {
			continue
		}
		if p, ok := placeIn(strings.TrimSuffix(fields[2], deleted)); ok {
			return p, true
		}
	}
	return place{}, false
}

func placeIn(cgroup string) (place, bool) {
	parts := strings.Split(cgroup, "/")
	for i, part := range parts {
		if id := idIn(part); id != "" {
			return place{id: id, pod: strings.Join(parts[:i], "/")}, true
		}
	}
	return place{}, false
}

// idIn returns the id that the name of a cgroup ends with.
func idIn(name string) string {
	name = strings.TrimSuffix(name, ".scope")
	cut := strings.LastIndexAny(name, "-:")
	id, before := name[cut+1:], name[:cut+1]
	// conmon is CRI-O's process beside a container, and not in its namespaces.
	if len(id) != longestID || !isHex(id) || strings.HasSuffix(before, "conmon-") {
		return ""
	}
	return id
}

// podName is the name of a pod's cgroup; systemd writes the pod's UID with underscores. The UID of a static pod has no dashes.
var podName = regexp.MustCompile(`pod[0-9a-f]{8}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{12}(\.slice)?(:|$)`)

// isPod reports whether the containers around the place are those of one pod; Docker's lie all in one cgroup.
func (p place) isPod() bool { return podName.MatchString(path.Base(p.pod)) }

// besides reports whether two places are in one pod, or in one container where there are no pods.
func (p place) besides(other place) bool {
	return p.pod == other.pod && (p.id == other.id || p.isPod())
}

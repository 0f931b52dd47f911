package target

import (
	"strings"
	"testing"
)

const (
	shopID    = "3f2a9c0e7b5d41c8a6e1f0b93d7c2a5e4f6b8d1c0a9e7f5b3d2c1a0f9e8d7c6b"
	sandboxID = "9e8d7c6b3f2a9c0e7b5d41c8a6e1f0b93d7c2a5e4f6b8d1c0a9e7f5b3d2c1a0f"
	podUID    = "0d3f7a52-8c1e-4b6f-9a2d-5e7c1f3b9d84"
)

var podUnderscored = strings.ReplaceAll(podUID, "-", "_")

func TestContainersAreFoundInEveryRuntimesNames(t *testing.T) {
	slice := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + podUnderscored + ".slice"
	guaranteed := "/kubepods.slice/kubepods-pod" + podUnderscored + ".slice"
	plain := "/kubepods/burstable/pod" + podUID
	for _, c := range []struct {
		name, file, pod string
		isPod           bool
	}{
		{"containerd, cgroupfs, v2", "0::" + plain + "/" + shopID + "\n", plain, true},
		{"containerd, systemd, v2", "0::" + slice + "/cri-containerd-" + shopID + ".scope\n", slice, true},
		{"containerd, systemd, guaranteed pod", "0::" + guaranteed + "/cri-containerd-" + shopID + ".scope\n", guaranteed, true},
		{"containerd, cgroupfs, v1", "12:memory:" + plain + "/" + shopID + "\n1:name=systemd:" + plain + "/" + shopID + "\n", plain, true},
		{"containerd, cgroupfs, hybrid", "4:memory:" + plain + "/" + shopID + "\n0::/system.slice/containerd.service\n", plain, true},
		{"containerd, systemd, hybrid", "4:memory:" + slice + "/cri-containerd-" + shopID + ".scope\n0::/\n", slice, true},
		{"containerd, systemd names under cgroupfs", "0::/system.slice/containerd.service/kubepods-burstable-pod" + podUnderscored + ".slice:cri-containerd:" + shopID + "\n", "/system.slice/containerd.service", false},
		{"CRI-O, systemd, v2", "0::" + slice + "/crio-" + shopID + ".scope\n", slice, true},
		{"CRI-O with crun, systemd, v2", "0::" + slice + "/crio-" + shopID + ".scope/container\n", slice, true},
		{"CRI-O, cgroupfs, v1", "3:cpu,cpuacct:" + plain + "/crio-" + shopID + "\n0::/\n", plain, true},
		{"Docker, systemd, v2", "0::" + slice + "/docker-" + shopID + ".scope\n", slice, true},
		{"Docker, cgroupfs, v1", "2:pids:" + plain + "/" + shopID + "\n", plain, true},
		{"Docker without Kubernetes, systemd", "0::/system.slice/docker-" + shopID + ".scope\n", "/system.slice", false},
		{"Docker without Kubernetes, cgroupfs", "2:pids:/docker/" + shopID + "\n", "/docker", false},
		{"a static pod", "0::/kubepods/burstable/pod" + strings.ReplaceAll(podUID, "-", "") + "/" + shopID + "\n", "/kubepods/burstable/pod" + strings.ReplaceAll(podUID, "-", ""), true},
		{"kind: a node in a container", "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + podUnderscored + ".slice/cri-containerd-" + shopID + ".scope\n",
			"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + podUnderscored + ".slice", true},
		{"seen from a cgroup namespace", "0::/../../pod" + podUID + "/" + shopID + "\n", "/../../pod" + podUID, true},
		{"seen from a container of the same pod", "0::/../" + shopID + "\n", "/..", false},
		{"a container inside", "0::" + plain + "/" + shopID + "/docker/" + sandboxID + "\n", plain, true},
		{"removed since", "0::" + plain + "/" + shopID + " (deleted)\n", plain, true},
	} {
		got, ok := placeOf([]byte(c.file))
		if !ok || got.id != shopID || got.pod != c.pod || got.isPod() != c.isPod {
			t.Errorf("%s: %+v, %v, a pod: %v; want pod %s, %v", c.name, got, ok, got.isPod(), c.pod, c.isPod)
		}
	}
}

func TestOtherProcessesAreInNoContainer(t *testing.T) {
	for name, file := range map[string]string{
		"CRI-O's conmon": "0::/kubepods.slice/kubepods-pod" + podUnderscored + ".slice/crio-conmon-" + shopID + ".scope\n",
		"a service":      "0::/system.slice/kubelet.service\n",
		"the root":       "1:name=systemd:/\n0::/\n",
		"a short name":   "0::/user.slice/session-0123456789ab.scope\n",
		"not hex":        "0::/x/" + strings.Repeat("g", longestID) + "\n",
		"cut off":        "0:\n\n:",
		"empty":          "",
	} {
		if got, ok := placeOf([]byte(file)); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestContainerIDsComeAsKubernetesWritesThem(t *testing.T) {
	for _, name := range []string{shopID, "containerd://" + shopID, "cri-o://" + shopID, "docker://" + shopID} {
		if got, err := containerID(name); err != nil || got != shopID {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "shop", shopID[:11], shopID + "0", strings.ToUpper(shopID), "containerd://", "../" + shopID} {
		if got, err := containerID(name); err == nil {
			t.Errorf("%q: %s", name, got)
		}
	}
}

func FuzzPlace(f *testing.F) {
	f.Add("0::/kubepods/burstable/pod" + podUID + "/" + shopID + "\n")
	f.Add("4:memory:/a\n0::/../../crio-" + shopID + ".scope/container (deleted)\n")
	f.Fuzz(func(t *testing.T, file string) {
		p, ok := placeOf([]byte(file))
		if ok && (len(p.id) != longestID || !strings.Contains(file, p.id)) {
			t.Errorf("%q: %+v", file, p)
		}
		p.isPod()
	})
}

package doctor

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestPodNetworksAreToldByTheirDaemonSets(t *testing.T) {
	for _, c := range []struct {
		daemonSets []string
		want       string
	}{
		{nil, "none that is known by its DaemonSets"},
		{[]string{"kube-proxy"}, "none that is known by its DaemonSets"},
		{[]string{"kube-proxy", "cilium"}, "Cilium"},
		{[]string{"cilium-envoy"}, "none that is known by its DaemonSets"},
		{[]string{"kube-flannel-ds"}, "Flannel"},
		{[]string{"kube-multus-ds", "calico-node"}, "Calico, Multus"},
	} {
		if got := pluginIn(c.daemonSets); got != c.want {
			t.Errorf("%v: %q, want %q", c.daemonSets, got, c.want)
		}
	}
}

func TestMeshesAreToldByTheirSidecars(t *testing.T) {
	containers := func(names ...string) (all []corev1.Container) {
		for _, n := range names {
			all = append(all, corev1.Container{Name: n})
		}
		return all
	}
	for _, c := range []struct {
		spec corev1.PodSpec
		want string
	}{
		{corev1.PodSpec{Containers: containers("app")}, ""},
		{corev1.PodSpec{Containers: containers("app", "istio-proxy")}, "Istio"},
		{corev1.PodSpec{Containers: containers("app"), InitContainers: containers("istio-proxy")}, "Istio"},
		{corev1.PodSpec{Containers: containers("linkerd-proxy", "app")}, "Linkerd"},
	} {
		if got := meshOf(&corev1.Pod{Spec: c.spec}); got != c.want {
			t.Errorf("%+v: %q, want %q", c.spec, got, c.want)
		}
	}
}

package doctor

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// plugins are the pod networks that are told by the names of their DaemonSets.
var plugins = []struct{ name, daemonSet string }{
	{"Calico", "calico-node"}, {"Canal", "canal"}, {"Cilium", "cilium"}, {"Flannel", "kube-flannel"}, {"Antrea", "antrea-agent"},
	{"kindnet", "kindnet"}, {"AWS VPC CNI", "aws-node"}, {"Azure CNI", "azure-cns"}, {"OVN-Kubernetes", "ovnkube-node"},
	{"Kube-OVN", "kube-ovn-cni"}, {"Weave Net", "weave-net"}, {"Multus", "kube-multus"}, {"GKE Dataplane V2", "anetd"},
}

// maxDaemonSets bounds one page of the list. No cluster has that many.
const maxDaemonSets = 1000

// network names the pod network. Agents work inside the network namespace of the pod, where each of them looks the
// same; it is told for whoever reads a report of a problem.
func (v *visit) network(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	list, err := v.Cluster.Client().AppsV1().DaemonSets("").List(ctx, metav1.ListOptions{Limit: maxDaemonSets})
	switch {
	case apierrors.IsForbidden(err):
		v.ok("pod network", "not known (DaemonSets cannot be listed); agents work inside the pod and do not depend on it")
		return
	case err != nil:
		v.fail("pod network", cluster.Explain("list DaemonSets", err))
		return
	}
	names := make([]string, 0, len(list.Items))
	for _, ds := range list.Items {
		names = append(names, ds.Name)
	}
	v.ok("pod network", pluginIn(names)+"; agents work inside the pod and do not depend on it")
}

func pluginIn(daemonSets []string) string {
	var found []string
	for _, p := range plugins {
		if slices.ContainsFunc(daemonSets, func(name string) bool {
			return name == p.daemonSet || strings.HasPrefix(name, p.daemonSet+"-ds")
		}) {
			found = append(found, p.name)
		}
	}
	if len(found) == 0 {
		return "none that is known by its DaemonSets"
	}
	return strings.Join(found, ", ")
}

// meshes are told by the sidecars that they put into pods.
var meshes = []struct{ name, container string }{
	{"Istio", "istio-proxy"}, {"Linkerd", "linkerd-proxy"}, {"Kuma", "kuma-sidecar"}, {"Consul", "consul-dataplane"}, {"Open Service Mesh", "envoy"},
}

// mesh tells whether a sidecar stands before the container. Sidecars deliver over the loopback interface, decrypted,
// and that is where requests are taken.
func (v *visit) mesh(pod cluster.Pod) {
	if name := meshOf(pod.Pod); name != "" {
		v.ok("mesh", name+" sidecar in pod "+pod.Name+": requests are taken behind it, decrypted")
		return
	}
	if pod.Pod.Annotations["ambient.istio.io/redirection"] == "enabled" {
		v.warn("mesh", "pod "+pod.Name+" is in Istio's ambient mesh, which this version was not tested with", "see that requests with your header arrive before you rely on it")
		return
	}
	v.ok("mesh", "no sidecar in pod "+pod.Name)
}

func meshOf(pod *corev1.Pod) string {
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, m := range meshes {
			if c.Name == m.container {
				return m.name
			}
		}
	}
	return ""
}

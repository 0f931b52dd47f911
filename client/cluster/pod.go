package cluster

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// A Pod is one replica of a target, and the container in it that we stand in for.
type Pod struct {
	Namespace, Name, UID string
	Node, IP             string
	Container            string
	ContainerID          string // as the kubelet reports it: containerd://…; "" when it does not run
	Ready                bool
	Ports                []corev1.ContainerPort // that Container declares
	Pod                  *corev1.Pod            // all the API server told; not to be changed
}

// String is pod/NAME.
func (p Pod) String() string { return KindPod + "/" + p.Name }

// newPod chooses the container: the one that is named, else as kubectl does. Without a container of that name, Container stays empty.
func newPod(pod *corev1.Pod, named string) Pod {
	p := Pod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Node: pod.Spec.NodeName, IP: pod.Status.PodIP, Pod: pod}
	chosen := choose(pod, named)
	if chosen == nil {
		return p
	}
	p.Container, p.Ports = chosen.Name, chosen.Ports
	if status := statusOf(pod, chosen.Name); status != nil && status.State.Running != nil {
		p.ContainerID = status.ContainerID
	}
	p.Ready = ready(pod) && p.ContainerID != ""
	return p
}

// comes reports whether the pod's container runs for the first time: it will be ready soon, unless it crashes.
func (p Pod) comes() bool {
	status := statusOf(p.Pod, p.Container)
	return p.ContainerID != "" && status.RestartCount == 0
}

// defaultContainer is the annotation that kubectl honours, too.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// sidecars are the containers that meshes add: never what a developer means without saying so.
var sidecars = []string{
	"istio-proxy", "linkerd-proxy", "kuma-sidecar", "envoy", "envoy-sidecar", "consul-dataplane", "consul-connect-envoy-sidecar", "nginx-mesh-sidecar", "daprd",
}

func choose(pod *corev1.Pod, named string) *corev1.Container {
	if named != "" {
		return container(pod, named)
	}
	if c := container(pod, pod.Annotations[defaultContainer]); c != nil {
		return c
	}
	for i, c := range pod.Spec.Containers {
		if !slices.Contains(sidecars, c.Name) {
			return &pod.Spec.Containers[i]
		}
	}
	if len(pod.Spec.Containers) == 0 {
		return nil
	}
	return &pod.Spec.Containers[0]
}

// container finds one that goes on running: init containers only if they are sidecars by Kubernetes' own meaning.
func container(pod *corev1.Pod, name string) *corev1.Container {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return &pod.Spec.Containers[i]
		}
	}
	for i, c := range pod.Spec.InitContainers {
		if c.Name == name && stays(c) {
			return &pod.Spec.InitContainers[i]
		}
	}
	return nil
}

func stays(init corev1.Container) bool {
	return init.RestartPolicy != nil && *init.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// containers names those that can be chosen.
func containers(pod *corev1.Pod) []string {
	var names []string
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		if stays(c) {
			names = append(names, c.Name)
		}
	}
	return names
}

func statusOf(pod *corev1.Pod, container string) *corev1.ContainerStatus {
	for _, all := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range all {
			if all[i].Name == container {
				return &all[i]
			}
		}
	}
	return nil
}

func ready(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning && holds(pod, corev1.PodReady)
}

func holds(pod *corev1.Pod, kind corev1.PodConditionType) bool {
	c := condition(pod, kind)
	return c != nil && c.Status == corev1.ConditionTrue
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// over reports whether the pod has ended and will not start again.
func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// ours marks the pods of agents: whatever their labels, no session stands in for one.
const ours = "magpie-k8s.github.io/target-uid"

// byAge sorts the oldest first; names decide between pods of one second.
func byAge(a, b Pod) int {
	if d := a.Pod.CreationTimestamp.Compare(b.Pod.CreationTimestamp.Time); d != 0 {
		return d
	}
	switch {
	case a.Name < b.Name:
		return -1
	case a.Name > b.Name:
		return 1
	}
	return 0
}

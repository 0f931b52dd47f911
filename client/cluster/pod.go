package cluster

import (
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

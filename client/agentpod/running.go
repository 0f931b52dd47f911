package agentpod

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// Running lists the agents of a namespace, or of all if it is "".
func Running(ctx context.Context, c *cluster.Cluster, namespace string) ([]*Agent, error) {
	const page = 500
	var agents []*Agent
	for options := (metav1.ListOptions{Limit: page}); ; { // all pods, as no selector finds containers
		list, err := c.Client().CoreV1().Pods(namespace).List(ctx, options)
		if err != nil {
			return nil, cluster.Explain("list agents", err)
		}
		for i := range list.Items {
			agents = append(agents, agentsOf(c, &list.Items[i])...)
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return agents, nil
		}
	}
}

// agentsOf finds the agents that run in a pod, as its purpose or beside it. The kubelet may be a second late to tell that one runs.
func agentsOf(c *cluster.Cluster, pod *corev1.Pod) []*Agent {
	if ending(pod) || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	if pod.Labels[labelName] == agentName && assigned(pod) && refusal(pod, agentName) == nil {
		return []*Agent{ofPod(c, pod)}
	}
	if found := liveEphemeral(pod, newLeaving()); found != nil {
		return []*Agent{inPod(c, pod, found.Name)}
	}
	return nil
}

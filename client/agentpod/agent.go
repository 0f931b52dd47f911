// Package agentpod puts agents beside pods and opens carriers to them: as a Job's pod on the same node, reached by port-forward, or as an
// ephemeral container, reached by exec. It never touches the target's own containers, and what it started it deletes when the start fails.
package agentpod

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/wire"
)

const (
	// Port is where agents listen, on their pod's loopback: only the API server's port-forward leads there.
	Port = 5040

	// socket is where an ephemeral agent listens: its pod's loopback is the target's.
	socket = "/run/magpie/agent.sock"
)

// An Agent is one that runs beside a pod. It is safe for concurrent use.
type Agent struct {
	cluster         *cluster.Cluster
	namespace, name string // of the agent's pod; of the target's if the agent is in there
	container       string // of an ephemeral agent, else ""
	target          string
	beside          [2]string // namespace and name of the target's pod
	started         bool
	job             *metav1.OwnerReference // that its pod belongs to; nil for an ephemeral one
	old             atomic.Bool            // the API server has no WebSockets

	mu    sync.Mutex
	ready *wire.Bond // opened by Enter for the first Dial
}

// Name is that of the agent's pod.
func (a *Agent) Name() string { return a.name }

// Namespace is that of the agent's pod.
func (a *Agent) Namespace() string { return a.namespace }

// Started reports whether Enter started the agent.
func (a *Agent) Started() bool { return a.started }

// Target is what to say in Hello to stand in for the pod that was entered.
func (a *Agent) Target() string { return a.target }

// TargetPod names the pod that the agent is beside; both are "" when it is beside none.
func (a *Agent) TargetPod() (namespace, name string) { return a.beside[0], a.beside[1] }

func (a *Agent) String() string {
	if a.container != "" {
		return fmt.Sprintf("agent %s in pod %s", a.container, a.name)
	}
	return "agent " + a.name
}

// Close gives up what is kept for the next Dial. Carriers stay open, and the agent leaves by itself.
func (a *Agent) Close() error {
	if bond := a.take(); bond != nil {
		return bond.Close()
	}
	return nil
}

// Clear deletes the Job of an agent that has said that it leaves, and with it the pod. Nobody has to: the Job ends with the agent, and then the cluster
// deletes it, which takes some seconds more. Connections that pass through the agent go on until it has let go of them.
func (a *Agent) Clear(ctx context.Context) error {
	if a.job == nil {
		return nil
	}
	err := a.cluster.Client().BatchV1().Jobs(a.namespace).Delete(ctx, a.job.Name, metav1.DeleteOptions{
		PropagationPolicy: new(metav1.DeletePropagationBackground),
		Preconditions:     &metav1.Preconditions{UID: &a.job.UID}, // the next agent's may have its name already
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return cluster.Explain(fmt.Sprintf("clear %v away", a), err)
	}
	return nil
}

func (a *Agent) take() *wire.Bond {
	a.mu.Lock()
	defer a.mu.Unlock()
	bond := a.ready
	a.ready = nil
	return bond
}

// ofPod is the agent whose own pod this is.
func ofPod(c *cluster.Cluster, pod *corev1.Pod) *Agent {
	a := &Agent{cluster: c, namespace: pod.Namespace, name: pod.Name}
	if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind == "Job" {
		a.job = owner
	}
	if namespace, name, ok := strings.Cut(pod.Annotations[annotationTarget], "/"); ok {
		a.beside = [2]string{namespace, name}
	}
	return a
}

// inPod is the agent that is an ephemeral container of this pod.
func inPod(c *cluster.Cluster, pod *corev1.Pod, container string) *Agent {
	return &Agent{cluster: c, namespace: pod.Namespace, name: pod.Name, container: container, beside: [2]string{pod.Namespace, pod.Name}}
}

// Package agentpod puts agents beside pods and opens carriers to them: as a Job's pod on the same node, reached by port-forward, or as an ephemeral
// container, reached by exec. It never touches the target's own containers, and what it started it deletes when the start fails.
package agentpod

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/magpie-k8s/magpie/client/cluster"
)

const (
	// Port is where agents listen, on their pod's loopback: only the API server's port-forward leads there.
	Port = 5040

	prefix = "magpie-k8s.github.io/"
)

// An Agent is one that runs beside a pod. It is safe for concurrent use.
type Agent struct {
	namespace, name string
	target          string
	started         bool
}

// Enter finds the agent of a pod, whoever started it, or starts one, and returns when it listens. The zero pod but for its namespace stands for none:
// an agent without a target. Step is told the parts of the way as they are done.
func Enter(ctx context.Context, c *cluster.Cluster, pod cluster.Pod, s Settings, version string, linger time.Duration, step func(what, detail string)) (*Agent, error) {
	return nil, errors.New("not yet")
}

// Running lists the agents of a namespace, or of all if it is "".
func Running(ctx context.Context, c *cluster.Cluster, namespace string) ([]*Agent, error) {
	return nil, errors.New("not yet")
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
func (a *Agent) TargetPod() (namespace, name string) { return "", "" }

// Dial opens a carrier to the agent. ErrGone says that the agent has left.
func (a *Agent) Dial(ctx context.Context) (io.ReadWriteCloser, error) {
	return nil, errors.New("not yet")
}

// Close gives up what is kept for the next Dial. Carriers stay open, and the agent leaves by itself.
func (a *Agent) Close() error { return nil }

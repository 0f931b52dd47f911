package agentpod

import (
	"fmt"
	"time"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// leaveTime is what an agent that is told to end has for its sessions, beyond its linger.
const leaveTime = 10 * time.Second

// A plan is what one Enter is to reach.
type plan struct {
	cluster  *cluster.Cluster
	pod      cluster.Pod // the zero Pod stands for none
	settings Settings
	version  string // of this client
	linger   time.Duration
	told     func(what, detail string)
}

// namespace is where the agent's pod is.
func (p plan) namespace() string {
	switch {
	case p.settings.Namespace != "":
		return p.settings.Namespace
	case p.pod.Namespace != "":
		return p.pod.Namespace
	}
	return p.cluster.Namespace()
}

// target is what the agent is told to stand beside.
func (p plan) target() string {
	if p.pod.UID == "" {
		return noTarget
	}
	return containerTarget(p.pod)
}

// beside is how lines call the target.
func (p plan) beside() string {
	if p.pod.UID == "" {
		return "no pod"
	}
	return p.pod.String()
}

// step tells how long a part took.
func (p plan) step(what string, since time.Time, detail string) {
	if p.told == nil {
		return
	}
	if detail != "" {
		detail = ": " + detail
	}
	p.told(what, fmt.Sprintf("%v%s", time.Since(since).Round(time.Millisecond), detail))
}

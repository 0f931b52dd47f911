// Package doctor finds out whether Magpie can do its work in a cluster, and what stands in its way. It never repairs
// anything, and without a target it creates nothing.
package doctor

import (
	"context"
	"errors"
	"time"

	"github.com/magpie-k8s/magpie/client/agentpod"
	"github.com/magpie-k8s/magpie/client/cluster"
)

// A Verdict says how good a finding is.
type Verdict string

// A Warn works, but not as well as it could; a Fail is in the way of magpie exec.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn"
	Fail Verdict = "fail"
)

// A Finding is the answer to one question.
type Finding struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	Hint    string  `json:"hint,omitempty"`
}

// Config says what to look at.
type Config struct {
	Cluster *cluster.Cluster
	Target  *cluster.Target // nil: only what can be seen without an agent
	Agent   agentpod.Settings
	Version string
}

// patience bounds a single question to the API server. One that takes longer is an answer in itself.
const patience = 10 * time.Second

// visit is one run of all checks.
type visit struct {
	Config
	tell func(Finding)
}

// Examine asks all questions, and tells each answer as soon as it is known. It stops where no later question could be
// answered: at a cluster that does not answer, at a target without a pod, at an agent that does not start.
func Examine(ctx context.Context, cfg Config, tell func(Finding)) {
	v := &visit{cfg, tell}
	if !v.server(ctx) {
		return
	}
	v.latency(ctx)
	v.rights(ctx)
	v.podSecurity(ctx)
	v.network(ctx)
	if cfg.Target == nil {
		return
	}
	pod, ok := v.target(ctx)
	if !ok {
		return
	}
	if v.takes() {
		v.mesh(pod)
	}
	v.agent(ctx, pod)
}

func (v *visit) ok(check, text string)         { v.tell(Finding{Check: check, Verdict: OK, Text: text}) }
func (v *visit) warn(check, text, hint string) { v.tell(Finding{check, Warn, text, hint}) }

// fail tells an error with its own hint.
func (v *visit) fail(check string, err error) {
	f := Finding{Check: check, Verdict: Fail, Text: err.Error()}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		f.Hint = hinted.Hint()
	}
	v.tell(f)
}

// takes reports whether there is a pod whose requests could be taken.
func (v *visit) takes() bool { return v.Target.Kind != cluster.KindNone }

// agentNamespace is where agents are started.
func (v *visit) agentNamespace() string {
	if v.Agent.Namespace != "" && !v.Agent.Ephemeral {
		return v.Agent.Namespace
	}
	return v.Cluster.Namespace()
}

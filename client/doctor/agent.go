package doctor

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/magpie-k8s/magpie/client/agentpod"
	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/wire"
)

// target finds the pods, and takes the oldest as the one to look at.
func (v *visit) target(ctx context.Context) (cluster.Pod, bool) {
	if !v.takes() {
		v.ok("target", "none: a session without a pod")
		return cluster.Pod{Namespace: v.Cluster.Namespace()}, true
	}
	pods, err := v.Cluster.Pods(ctx, *v.Target)
	if err != nil {
		v.fail("target", err)
		return cluster.Pod{}, false
	}
	var nodes []string
	for _, p := range pods {
		nodes = append(nodes, fmt.Sprintf("%s on %s", p.Name, p.Node))
	}
	v.ok("target", fmt.Sprintf("%s: %d ready (%s), container %s", v.Target, len(pods), strings.Join(nodes, ", "), pods[0].Container))
	return pods[0], true
}

// agent starts or joins the agent of a pod as magpie exec would, and asks it what it sees.
func (v *visit) agent(ctx context.Context, pod cluster.Pod) {
	var parts []string
	step := func(what, detail string) { parts = append(parts, strings.TrimSpace(what+" "+detail)) }
	began := time.Now()
	agent, err := agentpod.Enter(ctx, v.Cluster, pod, v.Agent, v.Version, 0, step)
	if err != nil {
		v.fail("agent", err)
		return
	}
	defer agent.Close()
	how := "joined"
	if agent.Started() {
		how = "started"
	}
	v.ok("agent", fmt.Sprintf("%s in pod %s in %s (%s)", how, agent.Name(), millis(time.Since(began)), strings.Join(parts, "; ")))
	pipe, err := agent.Dial(ctx)
	if err != nil {
		v.fail("carrier", err)
		return
	}
	if v.ask(ctx, agent, pipe) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
		defer cancel()
		_ = agent.Clear(ctx) // the cluster does it, too, a little later
	}
}

// ask is a session of its own, so that an agent that was started for it leaves at once when it is over. It reports whether it does.
func (v *visit) ask(ctx context.Context, agent *agentpod.Agent, pipe io.ReadWriteCloser) (last bool) {
	carrier := wire.Client(pipe)
	defer carrier.Close()
	calls, err := carrier.Calls(ctx)
	if err != nil {
		v.fail("carrier", err)
		return false
	}
	defer calls.Close()
	host, _ := os.Hostname()
	hello := &wire.HelloRequest{Version: v.Version, Target: agent.Target(), Who: &wire.Who{Host: host, Command: "magpie doctor"}}
	there, err := calls.Hello(ctx, hello)
	if err != nil {
		v.fail("carrier", err)
		return false
	}
	defer func() { last = leave(ctx, calls) }()
	if err := agentpod.Fits(there.Version, v.Version); err != nil {
		v.fail("agent", err)
	}
	round, err := measure(ctx, func(ctx context.Context) error {
		_, err := calls.Sessions(ctx, &wire.SessionsRequest{}) // costs the agent nothing
		return err
	})
	if err != nil {
		v.fail("carrier", err)
		return false
	}
	v.ok("carrier", round.String()+" to the agent")
	seen, err := calls.Inspect(ctx, &wire.InspectRequest{})
	if err != nil {
		v.fail("node", err)
		return false
	}
	v.node(seen)
	return last
}

// leaveTime bounds the last word.
const leaveTime = 2 * time.Second

// leave reports whether nobody is left on the agent.
func leave(ctx context.Context, calls *wire.Caller) (last bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	resp, err := calls.Leave(ctx, &wire.LeaveRequest{})
	return err == nil && resp.Last // else the end of the carrier says it, too
}

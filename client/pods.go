package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/client/agentpod"
	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/wire"
)

// Values of Config.Replicas.
const (
	AllReplicas = "all"
	OneReplica  = "one"
)

// pods are the ground of a target in a cluster: its ready replicas, or one of them.
type pods struct {
	cfg    Config
	target cluster.Target

	mu    sync.Mutex
	known map[string]*pod // by UID: a pod that is not ready for a while is the same place when it is back
	one   *pod            // with OneReplica: the one that was chosen
}

func newPods(cfg Config) (*pods, error) {
	target, err := cluster.ParseTarget(cfg.Target)
	if err != nil {
		return nil, err
	}
	if cfg.Cluster == nil {
		return nil, &wire.Error{Errno: syscall.EINVAL, Cause: fmt.Sprintf("target %s: no cluster to look in", cfg.Target), Advice: "netns/NAME and pid/N are targets on this host"}
	}
	return &pods{cfg: cfg, target: target, known: map[string]*pod{}}, nil
}

func (g *pods) places(ctx context.Context) ([]place, error) {
	if g.target.Kind == cluster.KindNone {
		return []place{g.nowhere()}, nil
	}
	found, err := g.cfg.Cluster.Pods(ctx, g.target)
	if err != nil {
		return nil, err
	}
	return g.choose(found), nil
}

// nowhere is the place of a session without a pod: an agent in a pod of its own.
func (g *pods) nowhere() *pod {
	p := newPod(g.cfg)
	p.update(cluster.Pod{Namespace: g.cfg.Cluster.Namespace(), Ready: true})
	return p
}

func (g *pods) watch(ctx context.Context, seen func([]place)) error {
	if g.target.Kind == cluster.KindNone {
		<-ctx.Done()
		return ctx.Err()
	}
	return g.cfg.Cluster.Watch(ctx, g.target, func(now []cluster.Pod) { seen(g.choose(now)) })
}

// choose makes places of pods; of one pod only, the same one as long as it is there, when that was asked for.
func (g *pods) choose(now []cluster.Pod) []place {
	g.mu.Lock()
	defer g.mu.Unlock()
	var chosen []place
	for _, p := range now {
		known := g.known[p.UID]
		if known == nil {
			known = newPod(g.cfg)
			g.known[p.UID] = known
		}
		known.update(p)
		chosen = append(chosen, known)
	}
	if g.cfg.Replicas != OneReplica {
		return chosen
	}
	if g.one == nil || !slices.Contains(chosen, place(g.one)) {
		first := slices.IndexFunc(now, func(p cluster.Pod) bool { return p.Ready })
		if first < 0 {
			return nil
		}
		g.one = chosen[first].(*pod)
	}
	return []place{g.one}
}

// pod is a replica in a cluster, as a place.
type pod struct {
	cfg Config

	entering sync.Mutex // one at a time
	agent    *agentpod.Agent

	first   sync.Once
	isReady chan struct{} // closed when it was for the first time

	mu  sync.Mutex
	now cluster.Pod
}

func newPod(cfg Config) *pod { return &pod{cfg: cfg, isReady: make(chan struct{})} }

func (p *pod) update(now cluster.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = now
	if now.Ready {
		p.first.Do(func() { close(p.isReady) })
	}
}

// ports are those that the pod declares, whichever container serves them.
func (p *pod) ports() (declared []uint16) {
	now := p.current()
	if now.Pod == nil {
		return nil
	}
	for _, c := range slices.Concat(now.Pod.Spec.InitContainers, now.Pod.Spec.Containers) {
		for _, port := range c.Ports {
			declared = append(declared, uint16(port.ContainerPort))
		}
	}
	slices.Sort(declared)
	return slices.Compact(declared)
}

func (p *pod) likelyTLS(port uint16) bool {
	now := p.current()
	return now.Pod != nil && now.PromisesTLS(port)
}

func (p *pod) ready() <-chan struct{} { return p.isReady }

func (p *pod) current() cluster.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *pod) String() string {
	if now := p.current(); now.Name != "" {
		return now.String()
	}
	return cluster.KindNone
}

const (
	// dialTimeout is for an agent that was there a moment ago.
	dialTimeout = 10 * time.Second
	// maxLeaving is how many agents in a row may be about to leave when they are entered.
	maxLeaving = 10
)

// enter dials the agent that was there last time, or finds or starts one.
func (p *pod) enter(ctx context.Context) (pipe io.ReadWriteCloser, target string, err error) {
	p.entering.Lock()
	defer p.entering.Unlock()
	for try := range maxLeaving {
		if p.agent == nil {
			p.agent, err = agentpod.Enter(ctx, p.cfg.Cluster, p.current(), p.cfg.Agent, p.cfg.Version, p.cfg.Linger, p.cfg.Part)
			if err != nil {
				return nil, "", err
			}
		}
		if pipe, err = p.dial(ctx); err == nil {
			return pipe, p.agent.Target(), nil
		}
		p.agent.Close()
		p.agent = nil
		if !errors.Is(err, agentpod.ErrGone) || !pause(ctx, pauseBefore(try)) {
			break
		}
	}
	return nil, "", err
}

func (p *pod) dial(ctx context.Context) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return p.agent.Dial(ctx)
}

// lost: whatever took the link away, the pod may be there still, and the way to it back soon.
func (p *pod) lost(why error) (error, bool) { return why, false }

func (p *pod) leave(last bool) {
	p.entering.Lock()
	defer p.entering.Unlock()
	if p.agent == nil {
		return
	}
	p.agent.Close()
	if last {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
		defer cancel()
		_ = p.agent.Clear(ctx) // the cluster does it, too, a little later
	}
	p.agent = nil
}

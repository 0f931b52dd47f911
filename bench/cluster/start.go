package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// A launch is one magpie exec --steal that had to start an agent: when things were, since its own start.
type launch struct {
	created time.Duration // the API server has the agent's Job
	runs    time.Duration // the node has started the container
	answers time.Duration // the agent answers
	known   time.Duration // the command can start: its environment and names are here
	ready   time.Duration // requests come to the developer
}

// pod is what Kubernetes takes to start a pod, whoever's it is.
func (l launch) pod() time.Duration { return l.runs - l.created }

// measureStarts measures sessions that start an agent and sessions that join one.
func measureStarts(ctx context.Context, out io.Writer, l *lab, n int) error {
	nodes, err := watchNodes(ctx, l)
	if err != nil {
		return err
	}
	defer nodes.close()
	var launches []launch
	for range n {
		one, err := l.launch(ctx, nodes)
		if err != nil {
			return err
		}
		launches = append(launches, one)
		if err := l.noAgent(ctx); err != nil {
			return err
		}
	}
	joins, err := l.joins(ctx, n)
	if err != nil {
		return err
	}
	printStarts(out, launches, joins)
	return nil
}

func (l *lab) launch(ctx context.Context, nodes *nodes) (one launch, err error) {
	s, err := start(l.steal(ctx, "me", "-v"))
	if err != nil {
		return one, err
	}
	defer s.end()
	ready, err := s.ready()
	if err != nil {
		return one, err
	}
	created, err := s.wait("agent's job created")
	if err != nil {
		return one, err
	}
	answers, err := s.wait("agent answers")
	if err != nil {
		return one, err
	}
	known, err := s.wait("magpie: environment")
	if err != nil {
		return one, err
	}
	var runs time.Time
	err = eventually(ctx, func() error {
		id, err := l.kubectl(ctx, "-n", l.namespace, "get", "pods", "-l", "app.kubernetes.io/name=magpie-agent", "-o", "jsonpath={.items[*].status.containerStatuses[*].containerID}")
		if err != nil {
			return err
		}
		runs, err = nodes.started(strings.TrimPrefix(id, "containerd://"))
		return err
	})
	since := func(t time.Time) time.Duration { return t.Sub(s.began) }
	return launch{since(created), since(runs), since(answers), since(known), since(ready)}, err
}

// joins measures sessions that find an agent.
func (l *lab) joins(ctx context.Context, n int) (joins []time.Duration, err error) {
	first, err := start(l.steal(ctx, "me"))
	if err != nil {
		return nil, err
	}
	defer first.end()
	if _, err := first.ready(); err != nil {
		return nil, err
	}
	for range n {
		second, err := start(l.steal(ctx, "you"))
		if err != nil {
			return nil, err
		}
		ready, err := second.ready()
		second.end()
		if err != nil {
			return nil, err
		}
		joins = append(joins, ready.Sub(second.began))
	}
	first.end()
	return joins, l.noAgent(ctx)
}

func printStarts(out io.Writer, launches []launch, joins []time.Duration) {
	fmt.Fprintf(out, "\nmagpie exec --steal, from its start until it is ready, medians of %d\n\n", len(launches))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what string, figure func(launch) time.Duration) {
		fmt.Fprintf(w, "%s\t%.0f ms\t\n", what, float64(mid(launches, figure))/float64(time.Millisecond))
	}
	row("until the agent's Job is created", func(l launch) time.Duration { return l.created })
	row("the pod's own start, until its container runs", launch.pod)
	row("until the agent answers", func(l launch) time.Duration { return l.answers - l.runs })
	row("until the command starts", func(l launch) time.Duration { return l.known - l.answers })
	row("until it listens and requests come to it", func(l launch) time.Duration { return l.ready - l.known })
	row("in all", func(l launch) time.Duration { return l.ready })
	row("in all, beyond the pod's own start", func(l launch) time.Duration { return l.ready - l.pod() })
	fmt.Fprintf(w, "joining an agent that runs, in all\t%.0f ms\t\n", float64(mid(joins, func(d time.Duration) time.Duration { return d }))/float64(time.Millisecond))
	w.Flush()
}

// nodes know to the microsecond when a container starts; the API server only knows the second.
type nodes struct {
	watches []*exec.Cmd

	mu     sync.Mutex
	starts map[string]time.Time // by container
}

func watchNodes(ctx context.Context, l *lab) (*nodes, error) {
	names, err := l.kubectl(ctx, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")
	if err != nil {
		return nil, err
	}
	n := &nodes{starts: map[string]time.Time{}}
	for _, name := range strings.Fields(names) {
		cmd := exec.CommandContext(ctx, l.bin("cluster"), "shell", name, "ctr", "--namespace=k8s.io", "events")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			n.close()
			return nil, err
		}
		n.watches = append(n.watches, cmd)
		go n.read(out)
	}
	return n, nil
}

// read takes lines such as: 2026-11-21 13:19:41.512879179 +0000 UTC k8s.io /tasks/start {"container_id":"e38f...","pid":42318}
func (n *nodes) read(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		when, what, ok := strings.Cut(lines.Text(), " k8s.io /tasks/start ")
		_, id, found := strings.Cut(what, `"container_id":"`)
		id, _, _ = strings.Cut(id, `"`)
		at, err := time.Parse("2006-01-02 15:04:05.999999999 -0700 MST", when)
		if !ok || !found || err != nil {
			continue
		}
		n.mu.Lock()
		n.starts[id] = at
		n.mu.Unlock()
	}
}

func (n *nodes) started(id string) (time.Time, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, ok := n.starts[id]; ok {
		return at, nil
	}
	return time.Time{}, fmt.Errorf("no node has started container %q", id)
}

func (n *nodes) close() {
	for _, cmd := range n.watches {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

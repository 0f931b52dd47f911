package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// Pods lists all ready replicas of a target, the oldest first. It returns *NotFound, *NotReady, or what Explain makes of a refusal. The target
// none has no pods, and that is no error.
func (c *Cluster) Pods(ctx context.Context, t Target) ([]Pod, error) {
	if t.Kind == KindNone {
		return nil, nil
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	w, err := c.workload(ctx, t)
	if err != nil {
		return nil, err
	}
	all, err := c.replicas(ctx, w)
	if err != nil {
		return nil, err
	}
	return usable(ctx, c, w, all)
}

// replicas lists a workload's pods as they are.
func (c *Cluster) replicas(ctx context.Context, w workload) ([]*corev1.Pod, error) {
	makers := newOwners(c)
	var learned error
	var both sync.WaitGroup
	both.Go(func() { learned = makers.learn(ctx, w) })
	listed, err := c.typed.CoreV1().Pods(c.namespace).List(ctx, w.options())
	both.Wait()
	if err := cmp.Or(Explain("list pods", err), learned); err != nil {
		return nil, err
	}
	var all []*corev1.Pod
	for i := range listed.Items {
		has, err := w.has(ctx, makers, &listed.Items[i])
		if err != nil {
			return nil, err
		}
		if has {
			all = append(all, &listed.Items[i])
		}
	}
	return all, nil
}

// usable keeps the ready pods that have the container, or says why there are none.
func usable(ctx context.Context, c *Cluster, w workload, all []*corev1.Pod) ([]Pod, error) {
	if len(all) == 0 {
		return nil, c.empty(ctx, w)
	}
	found, named := pick(w.target, all)
	switch {
	case !named:
		return nil, noContainer(w.target, all[0])
	case len(found) == 0:
		return nil, notReady(w.target, all)
	}
	return found, nil
}

// pick returns the ready pods, oldest first, and whether any pod has the container that the target names.
func pick(t Target, all []*corev1.Pod) (found []Pod, named bool) {
	for _, pod := range all {
		p := newPod(pod, t.Container)
		named = named || p.Container != ""
		if p.Ready {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, byAge)
	return found, named
}

func noContainer(t Target, pod *corev1.Pod) error {
	whole := Target{Kind: t.Kind, Name: t.Name, Selector: t.Selector}
	return &NotFound{What: fmt.Sprintf("container %q of %s", t.Container, whole), Advice: "its containers are: " + some(containers(pod))}
}

// empty is the error for a workload without any pod.
func (c *Cluster) empty(ctx context.Context, w workload) error {
	switch {
	case w.name != "":
		return c.unfound(ctx, w.target, nil)
	case w.target.Kind == KindLabel:
		if err := c.namespaceMissing(ctx); err != nil {
			return err
		}
		return &NotReady{What: w.target.String(), Waits: "no pod in namespace " + c.namespace + " has these labels",
			Advice: fmt.Sprintf("`kubectl -n %s get pods --show-labels` shows them", c.namespace)}
	case w.done:
		return &NotReady{What: w.target.String(), Waits: "it has ended", Advice: "start it anew, or name another target; `magpie ls` lists them"}
	case w.says != "":
		return &NotReady{What: w.target.String(), Waits: line(w.says), Advice: w.describe(c.namespace)}
	}
	advice := w.describe(c.namespace)
	if slices.Contains([]string{KindDeployment, KindStatefulSet, KindReplicaSet, KindRollout}, w.target.Kind) {
		advice = fmt.Sprintf("is it scaled to 0? `kubectl -n %s scale %s --replicas 1` starts one", c.namespace, w.object())
	}
	return &NotReady{What: w.target.String(), Waits: "it has no pods", Advice: advice}
}

func (w workload) object() string { return w.target.Kind + "/" + w.target.Name }

func (w workload) describe(namespace string) string {
	return fmt.Sprintf("`kubectl -n %s describe %s` tells more", namespace, w.object())
}

// notReady picks the pod that says most: a living one, the newest, for that is the one somebody waits for.
func notReady(t Target, all []*corev1.Pod) error {
	slices.SortStableFunc(all, func(a, b *corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	told := all[0]
	for _, pod := range all {
		if !over(pod) && pod.DeletionTimestamp == nil {
			told = pod
			break
		}
	}
	cause, hint := waits(told)
	if t.Kind != KindPod {
		cause = fmt.Sprintf("%s: %s", told.Name, cause)
	}
	if len(all) > 1 {
		cause += fmt.Sprintf(" (1 of %d pods)", len(all))
	}
	return &NotReady{What: t.String(), Waits: cause, Advice: hint}
}

package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

const (
	// remade is how long a target that was deleted may take to return under its name, as with `kubectl replace --force` or in a StatefulSet.
	remade = 5 * time.Second
	// askAgain is how soon the owner of a pod is asked for again when the API server did not say.
	askAgain = time.Second
)

// Watch tells seen the target's pods, at once and then whenever one comes or goes or changes its container, until ctx ends or the target is gone
// for good: then the error is *NotFound, or *NotReady for a job that has ended. A pod is told until it is deleted or has ended: from when its container
// first runs, with Ready false, so that there is time to prepare, or else from when it is ready; between, while its container starts anew, with Ready
// false again. An API server that cannot be reached changes nothing.
// seen is called by one goroutine, with a slice of its own, oldest pod first.
func (c *Cluster) Watch(ctx context.Context, t Target, seen func([]Pod)) error {
	if t.Kind == KindNone {
		seen(nil)
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{cluster: c, target: t, seen: seen, makers: newOwners(c), changed: make(chan struct{}, 1), known: make(map[types.UID]bool)}
	defer w.running.Wait()
	defer cancel()
	w.followObject(ctx)
	return w.run(ctx)
}

// A watch is one Watch.
type watch struct {
	cluster *Cluster
	target  Target
	seen    func([]Pod)
	makers  *owners
	changed chan struct{}
	running sync.WaitGroup

	object *shelf[*unstructured.Unstructured] // nil for single pods and labels
	pods   *shelf[*corev1.Pod]                // nil until the object was there
	load   workload                           // that pods is for
	leave  context.CancelFunc                 // stops what fills pods

	known map[types.UID]bool // pods that were ready once
	told  []Pod
	once  bool // whether seen was called
	gone  time.Time
}

func (w *watch) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.changed:
		case <-timer.C:
		}
		again, err := w.look(ctx)
		if err != nil {
			return err
		}
		if again > 0 {
			timer.Reset(again)
		}
	}
}

// look compares what is with what was told. It asks to be called again after a while if that is not 0.
func (w *watch) look(ctx context.Context) (again time.Duration, err error) {
	load, known, err := w.workload()
	if err != nil {
		return 0, err
	}
	if known {
		w.followPods(ctx, load)
	}
	if w.pods == nil {
		return w.waitForReturn(w.object != nil && w.objectGone())
	}
	all, filled, refused := w.pods.state()
	switch {
	case refused != nil:
		return 0, Explain("watch pods", refused)
	case !filled:
		return 0, nil
	}
	if err := w.tell(ctx, all); apierrors.IsForbidden(err) {
		return 0, err
	} else if err != nil {
		return askAgain, nil
	}
	if w.load.done {
		return 0, w.ended()
	}
	if w.target.Kind == KindPod {
		return w.waitForReturn(!slices.ContainsFunc(all, func(p *corev1.Pod) bool { return !over(p) }))
	}
	return w.waitForReturn(!known)
}

// waitForReturn gives a target that is gone the time to be made anew.
func (w *watch) waitForReturn(gone bool) (again time.Duration, err error) {
	switch {
	case !gone:
		w.gone = time.Time{}
		return 0, nil
	case w.gone.IsZero():
		w.gone = time.Now()
	}
	if left := remade - time.Since(w.gone); left > 0 {
		return left, nil
	}
	return 0, w.ended()
}

// ended is the error for a target that no pod will come from any more.
func (w *watch) ended() error {
	const advice = "`magpie ls` lists what can be a target"
	if w.load.done {
		return &NotReady{What: w.target.String(), Waits: "it has ended", Advice: advice}
	}
	if w.target.Kind == KindPod && w.pods != nil {
		if all, _, _ := w.pods.state(); len(all) > 0 {
			return &NotReady{What: w.target.String(), Waits: ended(all[0]), Advice: advice}
		}
	}
	return &NotFound{What: w.target.Kind + "/" + w.target.Name, Where: w.cluster.namespace, Advice: "it was deleted; " + advice}
}

// workload returns what the target says about its pods, and whether it is there.
func (w *watch) workload() (load workload, known bool, err error) {
	if w.object == nil {
		load, _ = plain(w.target)
		return load, true, nil
	}
	objects, _, refused := w.object.state()
	if refused != nil {
		return workload{}, false, Explain("watch "+resourceOf(w.target.Kind).Resource, refused)
	}
	if len(objects) == 0 {
		return workload{}, false, nil
	}
	load, err = newWorkload(w.target, objects[0])
	return load, err == nil, err
}

func (w *watch) objectGone() bool {
	objects, filled, _ := w.object.state()
	return filled && len(objects) == 0
}

func (w *watch) followObject(ctx context.Context) {
	if _, known := plain(w.target); known {
		return
	}
	w.object = newShelf[*unstructured.Unstructured](w.changed)
	at := w.cluster.dynamic.Resource(resourceOf(w.target.Kind)).Namespace(w.cluster.namespace)
	one := fields.OneTermEqualSelector("metadata.name", w.target.Name).String()
	from := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = one
			return at.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			o.FieldSelector = one
			return at.Watch(ctx, o)
		},
	}
	w.running.Go(func() { w.object.follow(ctx, from, &unstructured.Unstructured{}) })
}

// followPods starts, or starts over when the selector is another: a Service may turn to other pods, and a new Deployment may have the old name.
func (w *watch) followPods(ctx context.Context, load workload) {
	before := w.load
	w.load = load
	if w.pods != nil && before.labels == load.labels && before.name == load.name {
		return
	}
	if w.leave != nil {
		w.leave()
	}
	ctx, w.leave = context.WithCancel(ctx)
	pods := newShelf[*corev1.Pod](w.changed)
	w.pods = pods
	at, which := w.cluster.typed.CoreV1().Pods(w.cluster.namespace), load.options()
	from := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector, o.LabelSelector = which.FieldSelector, which.LabelSelector
			return at.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			o.FieldSelector, o.LabelSelector = which.FieldSelector, which.LabelSelector
			return at.Watch(ctx, o)
		},
	}
	w.running.Go(func() { pods.follow(ctx, from, &corev1.Pod{}) })
}

// tell calls seen if anything changed.
func (w *watch) tell(ctx context.Context, all []*corev1.Pod) error {
	ctx, cancel := w.cluster.bounded(ctx)
	defer cancel()
	var now []Pod
	known := make(map[types.UID]bool)
	for _, pod := range all {
		p := newPod(pod, w.target.Container)
		if p.Container == "" || over(pod) || pod.DeletionTimestamp != nil || !p.Ready && !w.known[pod.UID] && !p.comes() {
			continue
		}
		has, err := w.load.has(ctx, w.makers, pod)
		if err != nil {
			return err
		}
		if has {
			known[pod.UID] = p.Ready || w.known[pod.UID]
			now = append(now, p)
		}
	}
	slices.SortFunc(now, byAge)
	w.known = known
	if w.once && slices.EqualFunc(w.told, now, same) {
		return nil
	}
	w.told, w.once = now, true
	w.seen(slices.Clone(now))
	return nil
}

// same reports whether two states of a pod are one to whoever has a link to it.
func same(a, b Pod) bool {
	return a.UID == b.UID && a.Container == b.Container && a.ContainerID == b.ContainerID && a.Ready == b.Ready
}

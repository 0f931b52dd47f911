package cluster

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// A Candidate is something that can be a target.
type Candidate struct {
	Target         string // deploy/ems
	Namespace      string
	Kind, Name     string
	Owner          string // the target that made it, as deploy/ems for its pods; "" for what stands alone
	Ready, Desired int    // a Service, a Job and a CronJob desire the pods that they have
	Pods           []Pod  // that have not ended; oldest first
	Age            time.Duration
	Containers     []string               // that can be chosen
	Ports          []corev1.ContainerPort // that all of them declare
}

// List finds what can be a target in a namespace (c's own if it is ""), or in all, sorted by namespace, kind and name. When some kind may not be
// listed, it returns the others with the error; without the right to list pods it returns nothing.
func (c *Cluster) List(ctx context.Context, namespace string, all bool) ([]Candidate, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	if namespace == "" {
		namespace = c.namespace
	}
	if all {
		namespace = metav1.NamespaceAll
	}
	s, err := c.survey(ctx, namespace)
	if s == nil {
		return nil, err
	}
	var found []Candidate
	for _, pod := range s.pods {
		found = append(found, s.pod(pod))
	}
	for kind, objects := range s.objects {
		for i := range objects {
			found = append(found, s.candidate(kind, &objects[i])...)
		}
	}
	slices.SortFunc(found, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(order(a.Kind), order(b.Kind)), cmp.Compare(a.Name, b.Name))
	})
	return found, err
}

// order is that of the kinds in words, with pods last: there are most of them.
func order(kind string) int {
	if kind == KindPod {
		return len(words)
	}
	return slices.IndexFunc(words, func(w word) bool { return w.kind == kind })
}

// A survey is all that a namespace has, at about one time.
type survey struct {
	pods    []*corev1.Pod // that have not ended, and are no agents
	objects map[string][]unstructured.Unstructured
	owner   map[types.UID]metav1.OwnerReference // of anything that has one
}

// survey asks for everything at once. It is nil if there is nothing to show.
func (c *Cluster) survey(ctx context.Context, namespace string) (*survey, error) {
	s := &survey{objects: make(map[string][]unstructured.Unstructured), owner: make(map[types.UID]metav1.OwnerReference)}
	var mu sync.Mutex
	var asked sync.WaitGroup
	var refused error
	for _, w := range words {
		if w.kind == KindPod || w.resource.Resource == "" {
			continue
		}
		asked.Go(func() {
			list, err := c.dynamic.Resource(w.resource).Namespace(namespace).List(ctx, metav1.ListOptions{})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				s.objects[w.kind] = list.Items
			case apierrors.IsNotFound(err), w.kind == KindRollout && apierrors.IsForbidden(err):
				// A custom kind that the cluster does not have; who has no right to it is told that instead.
			default:
				refused = cmp.Or(refused, Explain("list "+w.resource.Resource, err))
			}
		})
	}
	pods, err := c.typed.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	asked.Wait()
	if err != nil {
		return nil, Explain("list pods", err)
	}
	if len(pods.Items) == 0 && namespace != metav1.NamespaceAll {
		if err := c.in(namespace).namespaceMissing(ctx); err != nil {
			return nil, err
		}
	}
	s.note(pods)
	return s, refused
}

// in is c with another namespace.
func (c *Cluster) in(namespace string) *Cluster {
	other := *c
	other.namespace = namespace
	return &other
}

func (s *survey) note(pods *corev1.PodList) {
	for i := range pods.Items {
		pod := &pods.Items[i]
		if _, agent := pod.Labels[ours]; agent || over(pod) {
			continue
		}
		s.pods = append(s.pods, pod)
		s.own(pod)
	}
	for _, objects := range s.objects {
		for i := range objects {
			s.own(&objects[i])
		}
	}
}

func (s *survey) own(object metav1.Object) {
	if ref := metav1.GetControllerOf(object); ref != nil {
		s.owner[object.GetUID()] = *ref
	}
}

// top is the highest controller above an object that can be a target, as deploy/ems; "" if there is none.
func (s *survey) top(uid types.UID) (name string) {
	for range len(words) { // no chain is longer, and none should be a ring
		ref, owned := s.owner[uid]
		if !owned {
			return name
		}
		kind := kindOf(ref.Kind)
		if kind == "" {
			return name // an operator's own kind
		}
		name, uid = kind+"/"+ref.Name, ref.UID
	}
	return name
}

// under reports whether the controller with that UID is above the object.
func (s *survey) under(object, controller types.UID) bool {
	for range len(words) {
		ref, owned := s.owner[object]
		if !owned {
			return false
		}
		if ref.UID == controller {
			return true
		}
		object = ref.UID
	}
	return false
}

func (s *survey) pod(pod *corev1.Pod) Candidate {
	found := Candidate{Namespace: pod.Namespace, Kind: KindPod, Name: pod.Name, Owner: s.top(pod.UID), Desired: 1, Age: age(pod)}
	return found.with([]*corev1.Pod{pod})
}

// candidate returns none for what has nothing to stand in for: a ReplicaSet of the past, a Job that has ended, a Service without a selector.
func (s *survey) candidate(kind string, object *unstructured.Unstructured) []Candidate {
	w, err := newWorkload(Target{Kind: kind, Name: object.GetName()}, object)
	if _, agent := object.GetLabels()[ours]; agent || err != nil || w.done {
		return nil
	}
	found := Candidate{Namespace: object.GetNamespace(), Kind: kind, Name: object.GetName(), Owner: s.top(object.GetUID()), Age: age(object)}
	found = found.with(s.below(w, object))
	found.Desired = len(found.Pods)
	for _, field := range [][]string{{"spec", "replicas"}, {"status", "desiredNumberScheduled"}} {
		if n, ok, _ := unstructured.NestedInt64(object.Object, field...); ok {
			found.Desired = int(n)
		}
	}
	if kind == KindReplicaSet && found.Owner != "" {
		return nil
	}
	return []Candidate{found}
}

func (s *survey) below(w workload, object *unstructured.Unstructured) []*corev1.Pod {
	selector, err := labels.Parse(w.labels)
	if err != nil {
		return nil
	}
	var pods []*corev1.Pod
	for _, pod := range s.pods {
		if pod.Namespace == object.GetNamespace() && selector.Matches(labels.Set(pod.Labels)) && (w.uid == "" || s.under(pod.UID, w.uid)) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// with fills in what the pods say.
func (c Candidate) with(pods []*corev1.Pod) Candidate {
	c.Target = c.Kind + "/" + c.Name
	for _, pod := range pods {
		p := newPod(pod, "")
		c.Pods = append(c.Pods, p)
		if p.Ready {
			c.Ready++
		}
	}
	slices.SortFunc(c.Pods, byAge)
	if len(pods) == 0 {
		return c
	}
	newest := c.Pods[len(c.Pods)-1].Pod
	c.Containers = containers(newest)
	for _, container := range newest.Spec.Containers {
		c.Ports = append(c.Ports, container.Ports...)
	}
	return c
}

func age(object metav1.Object) time.Duration { return time.Since(object.GetCreationTimestamp().Time) }

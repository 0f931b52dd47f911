package cluster

import (
	"context"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// owners knows who made the ReplicaSets and Jobs that make pods. Labels alone do not tell: two Deployments may share them.
type owners struct {
	cluster *Cluster

	mu    sync.Mutex
	above map[types.UID]metav1.OwnerReference // by the UID of a ReplicaSet or Job; zero for one that stands alone
}

func newOwners(c *Cluster) *owners {
	return &owners{cluster: c, above: make(map[types.UID]metav1.OwnerReference)}
}

// learn asks once for all ReplicaSets of a Deployment or Rollout, while the pods are on their way. What it misses, chain asks for.
func (o *owners) learn(ctx context.Context, w workload) error {
	if w.target.Kind != KindDeployment && w.target.Kind != KindRollout {
		return nil
	}
	sets, err := o.cluster.metadata.Resource(resourceOf(KindReplicaSet)).Namespace(o.cluster.namespace).List(ctx, metav1.ListOptions{LabelSelector: w.labels})
	if err != nil {
		return Explain("list replicasets", err)
	}
	for i := range sets.Items {
		o.note(&sets.Items[i])
	}
	return nil
}

func (o *owners) note(object metav1.Object) metav1.OwnerReference {
	var above metav1.OwnerReference
	if ref := metav1.GetControllerOf(object); ref != nil {
		above = *ref
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.above[object.GetUID()] = above
	return above
}

// made reports whether the object with that UID made the pod, itself or through one between.
func (o *owners) made(ctx context.Context, pod metav1.Object, by types.UID) (bool, error) {
	ref := metav1.GetControllerOf(pod)
	if ref == nil || ref.UID == by {
		return ref != nil, nil
	}
	above, err := o.chain(ctx, pod.GetNamespace(), *ref)
	return err == nil && above.UID == by, err
}

// chain finds the controller of a ReplicaSet or Job; the zero reference if it has none.
func (o *owners) chain(ctx context.Context, namespace string, ref metav1.OwnerReference) (metav1.OwnerReference, error) {
	kind := map[string]string{"ReplicaSet": KindReplicaSet, "Job": KindJob}[ref.Kind]
	if kind == "" {
		return metav1.OwnerReference{}, nil
	}
	o.mu.Lock()
	above, known := o.above[ref.UID]
	o.mu.Unlock()
	if known {
		return above, nil
	}
	object, err := o.cluster.metadata.Resource(resourceOf(kind)).Namespace(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return metav1.OwnerReference{}, nil // gone, and its pods soon
	case err != nil:
		return metav1.OwnerReference{}, Explain("get "+kind+"/"+ref.Name, err)
	case object.UID != ref.UID:
		return metav1.OwnerReference{}, nil
	}
	return o.note(object), nil
}

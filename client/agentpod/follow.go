package agentpod

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// watchPause is before a watch that broke is taken up again.
const watchPause = 300 * time.Millisecond

// follow tells what becomes of the pod's agents from a version of the list on, until ctx ends. A pod that is deleted has a
// DeletionTimestamp when it is told for the last time.
func (p plan) follow(ctx context.Context, version string) <-chan *corev1.Pod {
	return p.followPods(ctx, p.namespace(), p.selection(), version)
}

func (p plan) followPods(ctx context.Context, namespace string, what metav1.ListOptions, version string) <-chan *corev1.Pod {
	seen := make(chan *corev1.Pod)
	go func() {
		pods := p.cluster.Client().CoreV1().Pods(namespace)
		for ctx.Err() == nil {
			what.ResourceVersion = version
			changes, err := pods.Watch(ctx, what)
			if err == nil {
				pass(ctx, changes, seen)
			}
			select {
			case <-time.After(watchPause):
			case <-ctx.Done():
			}
			version = "" // from all that are there now
		}
	}()
	return seen
}

// pass gives on what a watch tells until that ends.
func pass(ctx context.Context, changes watch.Interface, seen chan<- *corev1.Pod) {
	defer changes.Stop()
	for change := range changes.ResultChan() {
		pod, ok := change.Object.(*corev1.Pod)
		if !ok {
			return // an error: the version is too old
		}
		if change.Type == watch.Deleted && pod.DeletionTimestamp == nil {
			pod.DeletionTimestamp = new(metav1.Now())
		}
		select {
		case seen <- pod:
		case <-ctx.Done():
			return
		}
	}
}

package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// A workload is what finding pods needs to know of the object that a target names.
type workload struct {
	target Target
	uid    types.UID // whose pods only; "" for services and labels, which own none
	labels string    // selector of the pods
	name   string    // of the one pod, instead of labels
	done   bool      // it has ended: no pod will follow
	says   string    // its own words on why there are no pods
}

// workload asks for the object; labels and single pods need no question.
func (c *Cluster) workload(ctx context.Context, t Target) (workload, error) {
	if w, known := plain(t); known {
		return w, nil
	}
	object, err := c.dynamic.Resource(resourceOf(t.Kind)).Namespace(c.namespace).Get(ctx, t.Name, metav1.GetOptions{})
	if err != nil {
		return workload{}, c.unfound(ctx, t, err)
	}
	return newWorkload(t, object)
}

// plain is for targets that say themselves which pods they mean.
func plain(t Target) (workload, bool) {
	switch t.Kind {
	case KindPod:
		return workload{target: t, name: t.Name}, true
	case KindLabel:
		return workload{target: t, labels: t.Selector}, true
	}
	return workload{}, false
}

func newWorkload(t Target, object *unstructured.Unstructured) (workload, error) {
	w := workload{target: t, uid: object.GetUID()}
	switch t.Kind {
	case KindService:
		w.uid = ""
		set, _, _ := unstructured.NestedStringMap(object.Object, "spec", "selector")
		if len(set) == 0 {
			kind, _, _ := unstructured.NestedString(object.Object, "spec", "type")
			return w, &Error{Cause: fmt.Sprintf("%s selects no pods (type %s)", t, kind), Advice: "name what runs behind it: deploy/NAME or pod/NAME"}
		}
		w.labels = labels.SelectorFromSet(set).String()
		return w, nil
	case KindCronJob:
		w.labels = "job-name" // the pods' owners decide: a CronJob selects by nothing else
		return w, nil
	}
	selector, err := selectorOf(object)
	if err != nil {
		return w, &Error{Cause: fmt.Sprintf("read selector of %s: %v", t, err), Advice: "name the pods themselves: label/KEY=VALUE", Err: err}
	}
	w.labels = selector.String()
	w.done = t.Kind == KindJob && (told(object, "Complete") != "" || told(object, "Failed") != "")
	w.says = told(object, "ReplicaFailure")
	return w, nil
}

// selectorOf reads spec.selector, or for a Rollout that borrows a Deployment's template what its controller wrote.
func selectorOf(object *unstructured.Unstructured) (labels.Selector, error) {
	if written, found, _ := unstructured.NestedString(object.Object, "status", "selector"); found && written != "" && object.GetKind() == "Rollout" {
		return labels.Parse(written)
	}
	raw, found, err := unstructured.NestedMap(object.Object, "spec", "selector")
	if err != nil || !found || len(raw) == 0 {
		return nil, fmt.Errorf("it has none")
	}
	var selector metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &selector); err != nil {
		return nil, err
	}
	return metav1.LabelSelectorAsSelector(&selector)
}

// told is the message of a condition that holds, "" of one that does not.
func told(object *unstructured.Unstructured, condition string) string {
	all, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, each := range all {
		if c, ok := each.(map[string]any); ok && c["type"] == condition && c["status"] == "True" {
			message, _ := c["message"].(string)
			return or(message, condition)
		}
	}
	return ""
}

// options select its pods.
func (w workload) options() metav1.ListOptions {
	if w.name != "" {
		return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", w.name).String()}
	}
	return metav1.ListOptions{LabelSelector: w.labels}
}

// has reports whether the pod is one of its own, and not of another with the same labels.
func (w workload) has(ctx context.Context, o *owners, pod *corev1.Pod) (bool, error) {
	if w.name != "" {
		return pod.Name == w.name, nil
	}
	if _, agent := pod.Labels[ours]; agent {
		return false, nil
	}
	if w.uid == "" {
		return true, nil
	}
	return o.made(ctx, pod, w.uid)
}

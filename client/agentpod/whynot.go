package agentpod

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

// podTime is for the Job controller to make a pod, which it does at once or not at all.
const podTime = 10 * time.Second

// refusedJob says why a Job could not be created.
func (p plan) refusedJob(ctx context.Context, err error) error {
	text := line(err.Error())
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return &Error{Cause: fmt.Sprintf("start agent: namespace %s is being deleted", p.namespace()), Advice: "agent.namespace puts agents elsewhere", Err: err}
	case apierrors.IsNotFound(err):
		return &Error{Cause: fmt.Sprintf("start agent: there is no namespace %s", p.namespace()), Advice: "agent.namespace says where agents are put", Err: err}
	case apierrors.IsForbidden(err) && strings.Contains(text, "exceeded quota"):
		return &Error{Cause: "start agent: " + text, Advice: adviceFor(text), Err: err}
	case apierrors.IsInvalid(err):
		return &Error{Cause: "start agent: " + text, Advice: "one of the agent's settings is not what Kubernetes takes", Err: err}
	}
	return p.explain(ctx, "start agent", err)
}

// whyNoPod returns why the Job controller makes no pod. Nothing but its events tells.
func (v *vigil) whyNoPod(ctx context.Context) error {
	if v.pod != nil || v.job == nil {
		return nil
	}
	for _, e := range v.warnings(ctx, v.job.UID) {
		if e.Reason == "FailedCreate" {
			text := brief(line(strings.TrimPrefix(e.Message, "Error creating: ")))
			return &Error{Cause: fmt.Sprintf("start agent in namespace %s: %s", v.namespace(), text), Advice: adviceFor(text)}
		}
	}
	if time.Since(v.began) > podTime {
		return &Error{
			Cause:  fmt.Sprintf("start agent: the Job %s/%s gets no pod", v.namespace(), v.job.Name),
			Advice: "does the cluster's controller manager run? `kubectl get events` tells more",
		}
	}
	return nil
}

// warnings are the events about an object, the newest last; none if we may not see them.
func (p plan) warnings(ctx context.Context, of types.UID) []corev1.Event {
	selector := fields.Set{"involvedObject.uid": string(of), "type": corev1.EventTypeWarning}.AsSelector().String()
	list, err := p.cluster.Client().CoreV1().Events(p.namespace()).List(ctx, metav1.ListOptions{FieldSelector: selector})
	if err != nil {
		return nil
	}
	return list.Items
}

// tooLate says how far the agent came.
func (v *vigil) tooLate(ctx context.Context) error {
	late := (*Error)(nil)
	if !errors.As(context.Cause(ctx), &late) {
		return fmt.Errorf("start agent beside %s: %w", v.beside(), ctx.Err())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if v.pod == nil {
		return late
	}
	state := "it waits for a node"
	switch {
	case runs(v.pod, v.container):
		state = "it runs, and does not answer"
	case assigned(v.pod):
		state = "its container is not running yet"
	}
	if events := v.warnings(ctx, v.pod.UID); len(events) > 0 {
		state = line(events[len(events)-1].Message)
	}
	return &Error{Cause: late.Cause + ": " + state, Advice: fmt.Sprintf("`kubectl describe pod -n %s %s` tells more; agent.startTimeout gives it longer", v.pod.Namespace, v.pod.Name)}
}

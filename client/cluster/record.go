package cluster

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The reasons of our events.
const (
	ReasonStarted = "MagpieSessionStarted"
	ReasonEnded   = "MagpieSessionEnded"
)

// longNote is the API server's bound for an event's message.
const longNote = 1024

// Record puts an event on the pod, for `kubectl describe` and `kubectl get events`. It is of the core API, not of events.k8s.io: the role edit
// that clusters give their developers allows only that one.
func (c *Cluster) Record(ctx context.Context, p Pod, reason, note string) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	if len(note) > longNote {
		note = strings.ToValidUTF8(note[:longNote], "")
	}
	now := metav1.Now()
	_, err := c.typed.CoreV1().Events(p.Namespace).Create(ctx, &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{GenerateName: p.Name + ".", Namespace: p.Namespace},
		InvolvedObject:      corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: p.Namespace, Name: p.Name, UID: types.UID(p.UID)},
		Reason:              reason,
		Message:             note,
		Type:                corev1.EventTypeNormal,
		Source:              corev1.EventSource{Component: "magpie"},
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
		ReportingController: "magpie-k8s.github.io/magpie",
	}, metav1.CreateOptions{})
	return Explain("record event on "+p.String(), err)
}

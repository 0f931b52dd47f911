package cluster

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
)

var errSoon = errors.New("not yet")

// Pods lists all ready replicas of a target, the oldest first. It returns *NotFound, *NotReady, or what Explain makes of a refusal. For none it
// returns none.
func (c *Cluster) Pods(ctx context.Context, t Target) ([]Pod, error) { return nil, errSoon }

// Watch tells seen all ready pods of a target, at once and then whenever one comes or goes, until ctx ends or the target is gone for good: then
// the error is *NotFound. An API server that cannot be reached changes nothing: seen is told when it is back.
func (c *Cluster) Watch(ctx context.Context, t Target, seen func([]Pod)) error { return errSoon }

// A Candidate is something that can be a target.
type Candidate struct {
	Target         string // deploy/ems
	Namespace      string
	Kind, Name     string
	Owner          string // the target that made it, as deploy/ems for its pods; "" for what stands alone
	Ready, Desired int
	Pods           []Pod
	Age            time.Duration
	Containers     []string
	Ports          []corev1.ContainerPort
}

// List finds what can be a target in a namespace (c's own if it is ""), or in all, sorted by namespace, kind and name.
func (c *Cluster) List(ctx context.Context, namespace string, all bool) ([]Candidate, error) {
	return nil, errSoon
}

// Namespaces lists the names of all namespaces.
func (c *Cluster) Namespaces(ctx context.Context) ([]string, error) { return nil, errSoon }

// The reasons of our events.
const (
	ReasonStarted = "MagpieSessionStarted"
	ReasonEnded   = "MagpieSessionEnded"
)

// Record puts an event on the pod, for `kubectl describe` and `kubectl get events`.
func (c *Cluster) Record(ctx context.Context, p Pod, reason, note string) error { return errSoon }

// Explain turns an error of the API server, or of the way to it, into one line of cause and one of hint.
func Explain(doing string, err error) error { return err }

// A Right is something that the API server may allow.
type Right struct {
	Verb, Group, Resource, Subresource string
	Namespace                          string // "" for all, or for what has none
	For                                string // what needs it, in words for the developer
}

// Allowed asks the API server which of the rights we have, in their order.
func (c *Cluster) Allowed(ctx context.Context, rights []Right) ([]bool, error) { return nil, errSoon }

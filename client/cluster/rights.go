package cluster

import (
	"cmp"
	"context"
	"sync"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Right is something that the API server may allow.
type Right struct {
	Verb, Group, Resource, Subresource string
	Namespace                          string // "" for all, or for what has none
	For                                string // what needs it, in words for the developer
}

// String is as in `kubectl auth can-i`: create pods/portforward, list deployments.apps.
func (r Right) String() string {
	text := r.Verb + " " + r.Resource
	if r.Group != "" {
		text += "." + r.Group
	}
	if r.Subresource != "" {
		text += "/" + r.Subresource
	}
	return text
}

// Allowed asks the API server which of the rights we have, in their order. Everybody may ask that.
func (c *Cluster) Allowed(ctx context.Context, rights []Right) ([]bool, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	allowed, refused := make([]bool, len(rights)), make([]error, len(rights))
	var all sync.WaitGroup
	for i, r := range rights {
		all.Go(func() { allowed[i], refused[i] = c.allowed(ctx, r) })
	}
	all.Wait()
	return allowed, cmp.Or(refused...)
}

func (c *Cluster) allowed(ctx context.Context, r Right) (bool, error) {
	answer, err := c.typed.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, r.review(), metav1.CreateOptions{})
	if err != nil {
		return false, Explain("ask for the right to "+r.String(), err)
	}
	return answer.Status.Allowed, nil
}

func (r Right) review() *authorizationv1.SelfSubjectAccessReview {
	return &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: r.Namespace, Verb: r.Verb, Group: r.Group, Resource: r.Resource, Subresource: r.Subresource,
		},
	}}
}

package cluster

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/magpie-k8s/magpie/internal/nearest"
)

// Secret returns the entries of a Secret of a namespace, c's own if it is "". The roles of deploy/rbac.yaml do not allow it: whoever wants it
// gives the right for the one Secret.
func (c *Cluster) Secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	if namespace == "" {
		namespace = c.namespace
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	secret, err := c.typed.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil:
		return secret.Data, nil
	case apierrors.IsNotFound(err):
		return nil, &NotFound{What: "secret/" + name, Where: namespace, Advice: c.otherSecrets(ctx, namespace, name)}
	case apierrors.IsForbidden(err):
		return nil, secretForbidden(namespace, name, err)
	}
	return nil, Explain("read secret "+name, err)
}

// secretForbidden has a hint of its own: this right is nobody's by default.
func secretForbidden(namespace, name string, err error) error {
	cause, _ := refusal(err)
	return &Error{
		Cause: fmt.Sprintf("read secret %s: %s", name, cause),
		Advice: fmt.Sprintf("`kubectl -n %s create role read-%s --verb get --resource secrets --resource-name %s` and a binding allow it; or name files of the target",
			namespace, strings.ReplaceAll(name, ".", "-"), name),
		Err: err,
	}
}

// otherSecrets names what may have been meant, for those who may list secrets. Only names are asked for.
func (c *Cluster) otherSecrets(ctx context.Context, namespace, name string) string {
	const advice = "`kubectl get secrets` lists them, if you may"
	ctx, cancel := context.WithTimeout(ctx, searching)
	defer cancel()
	list, err := c.metadata.Resource(resource("", "v1", "secrets")).Namespace(namespace).List(ctx, metav1.ListOptions{Limit: enoughNames})
	if err != nil {
		return advice
	}
	names := namesOf(list)
	if near := nearest.Word(name, names); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	return "there are: " + some(names)
}

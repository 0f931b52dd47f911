package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/magpie-k8s/magpie/internal/nearest"
)

const (
	// searching bounds what a hint may cost after the error is certain.
	searching = 3 * time.Second
	// enoughNames bounds each list that a hint is searched in.
	enoughNames = 500
)

// unfound explains why a target cannot be had, when asking for it gave err, or when listing it gave nothing.
func (c *Cluster) unfound(ctx context.Context, t Target, err error) error {
	var status apierrors.APIStatus
	switch {
	case err != nil && !apierrors.IsNotFound(err):
		return Explain("get "+t.Kind+"/"+t.Name, err)
	case errors.As(err, &status) && unknownKindOfAPI(status):
		return &NotFound{What: fmt.Sprintf("kind %s (%s)", t.Kind, resourceOf(t.Kind).GroupResource()), Where: "",
			Advice: "Argo Rollouts is not installed in this cluster; `magpie ls` lists what can be a target"}
	}
	ctx, cancel := context.WithTimeout(ctx, searching)
	defer cancel()
	if err := c.namespaceMissing(ctx); err != nil {
		return err
	}
	return &NotFound{What: t.Kind + "/" + t.Name, Where: c.namespace, Advice: c.perhaps(ctx, t)}
}

// namespaceMissing returns the error for our namespace if it is certain that it does not exist.
func (c *Cluster) namespaceMissing(ctx context.Context) error {
	if _, err := c.typed.CoreV1().Namespaces().Get(ctx, c.namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return nil
	}
	all, err := c.Namespaces(ctx)
	if err != nil {
		all = nil // not everybody may list them
	}
	advice := "name another with -n"
	if near := nearest.Word(c.namespace, all); near != "" {
		advice = fmt.Sprintf("did you mean -n %s?", near)
	} else if len(all) > 0 {
		advice = "there are: " + some(all)
	}
	return &NotFound{What: fmt.Sprintf("namespace %q", c.namespace), Advice: advice}
}

// Namespaces lists the names of all namespaces.
func (c *Cluster) Namespaces(ctx context.Context) ([]string, error) {
	list, err := c.metadata.Resource(resource("", "v1", "namespaces")).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, Explain("list namespaces", err)
	}
	return namesOf(list), nil
}

// perhaps names what may have been meant: the same name of another kind, a near name, the same in another namespace, or what there is.
func (c *Cluster) perhaps(ctx context.Context, t Target) string {
	names := c.names(ctx)
	for _, w := range words {
		if slices.Contains(names[w.kind], t.Name) {
			return fmt.Sprintf("did you mean %s/%s?", w.kind, t.Name)
		}
	}
	if near := nearest.Word(t.Name, names[t.Kind]); near != "" {
		return fmt.Sprintf("did you mean %s/%s?", t.Kind, near)
	}
	if others := c.elsewhere(ctx, t); len(others) > 0 {
		return fmt.Sprintf("there is one with -n %s", strings.Join(others, " or -n "))
	}
	if len(names[t.Kind]) == 0 {
		return fmt.Sprintf("there is no %s in namespace %s; `magpie ls -n %[2]s` lists what can be a target", resourceOf(t.Kind).Resource, c.namespace)
	}
	return fmt.Sprintf("there are: %s", some(names[t.Kind]))
}

// names lists by kind what there is in our namespace. What may not be listed is left out: it is for a hint only.
func (c *Cluster) names(ctx context.Context) map[string][]string {
	var mu sync.Mutex
	var all sync.WaitGroup
	found := make(map[string][]string)
	for _, w := range words {
		if w.resource.Resource == "" || w.kind == KindReplicaSet {
			continue
		}
		all.Go(func() {
			list, err := c.metadata.Resource(w.resource).Namespace(c.namespace).List(ctx, metav1.ListOptions{Limit: enoughNames})
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			found[w.kind] = namesOf(list)
		})
	}
	all.Wait()
	return found
}

// elsewhere lists the namespaces that have the target, if we may know.
func (c *Cluster) elsewhere(ctx context.Context, t Target) []string {
	list, err := c.metadata.Resource(resourceOf(t.Kind)).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + t.Name, Limit: manyNames})
	if err != nil {
		return nil
	}
	var namespaces []string
	for _, item := range list.Items {
		if item.Name == t.Name { // custom kinds of old clusters ignore the selector
			namespaces = append(namespaces, item.Namespace)
		}
	}
	return namespaces
}

func namesOf(list *metav1.PartialObjectMetadataList) []string {
	names := make([]string, 0, len(list.Items))
	for _, item := range list.Items {
		names = append(names, item.Name)
	}
	slices.Sort(names)
	return names
}

//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// rolloutKind is as much of Argo's definition as the API server needs.
const rolloutKind = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rollouts.argoproj.io}
spec:
  group: argoproj.io
  scope: Namespaced
  names: {kind: Rollout, listKind: RolloutList, plural: rollouts, singular: rollout, shortNames: [ro]}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// TestRolloutsAreTargets does by hand what Argo's controller does: it makes ReplicaSets for a Rollout.
func TestRolloutsAreTargets(t *testing.T) {
	namespace := newNamespace(t)
	apply(t, namespace, rolloutKind)
	t.Cleanup(func() { mustKubectl(t, "delete", "crd", "rollouts.argoproj.io") })
	mustKubectl(t, "wait", "--for=condition=Established", "crd/rollouts.argoproj.io", "--timeout=30s")
	within(t, 10*time.Second, func() error {
		_, err := kubectlWith(`{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: shop}, spec: {replicas: 1, selector: {matchLabels: {app: shop}}}}`,
			"-n", namespace, "apply", "-f", "-")
		return err
	})
	uid := strings.TrimSpace(mustKubectl(t, "-n", namespace, "get", "rollout", "shop", "-o", "jsonpath={.metadata.uid}"))
	for _, set := range []string{fmt.Sprintf(`{name: shop-1, ownerReferences: [{apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: shop, uid: %s, controller: true}]}`, uid), "{name: other}"} {
		apply(t, namespace, fmt.Sprintf(`{apiVersion: apps/v1, kind: ReplicaSet, metadata: %s, spec: {replicas: 1, selector: {matchLabels: {app: shop}},
			template: {metadata: {labels: {app: shop}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: shop, image: %s, command: [sleep, "3600"]}]}}}}`, set, toolsImage))
	}
	c := connect(t, "-n", namespace)
	within(t, time.Minute, func() error {
		pods, err := c.Pods(t.Context(), mustTarget(t, "rollout/shop"))
		if err == nil && (len(pods) != 1 || !strings.HasPrefix(pods[0].Name, "shop-1-")) {
			t.Fatalf("pods %v", podNames(pods))
		}
		return err
	})
	s := watchTarget(t, c, "ro/shop")
	s.until(t, "at start", many(1))
	mustKubectl(t, "-n", namespace, "scale", "rs/shop-1", "--replicas", "2")
	s.until(t, "scaled", many(2))
	_, err := c.Pods(t.Context(), mustTarget(t, "rollout/shpo"))
	mustSay(t, err, "rollout/shpo does not exist", "did you mean rollout/shop?")
}

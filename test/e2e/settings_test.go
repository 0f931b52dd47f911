//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestAgentsAreStartedAsTheTeamHasSetDown looks at the pod that the API server has let in.
func TestAgentsAreStartedAsTheTeamHasSetDown(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	class := "class-of-" + s.namespace
	mustKubectl(t, "create", "priorityclass", class, "--value=7")
	t.Cleanup(func() { mustKubectl(t, "delete", "priorityclass", class) })
	mustKubectl(t, "-n", s.namespace, "create", "serviceaccount", "magpie")
	settings := `agent:
  imagePullSecrets: [registry]
  serviceAccountName: magpie
  priorityClassName: ` + class + `
  labels: {team: ems}
  annotations: {example.com/owner: ems}
  tolerations: [{key: dedicated, operator: Exists}]
  resources: {requests: {cpu: 11m, memory: 33Mi}, limits: {memory: 222Mi}}
`
	dev.settle(t, settings)
	dev.steal(t, s, "me")
	for field, want := range map[string]string{
		".spec.imagePullSecrets[*].name":                             "registry",
		".spec.serviceAccountName":                                   "magpie",
		".spec.priority":                                             "7",
		".metadata.labels.team":                                      "ems",
		`.metadata.annotations.example\.com/owner`:                   "ems",
		".spec.tolerations[0].key":                                   "dedicated",
		".spec.containers[0].resources.requests.cpu":                 "11m",
		".spec.containers[0].resources.limits.memory":                "222Mi",
		".spec.automountServiceAccountToken":                         "false",
		".spec.hostPID":                                              "true",
		".spec.hostNetwork":                                          "",
		".spec.containers[0].securityContext.privileged":             "false",
		".spec.containers[0].securityContext.readOnlyRootFilesystem": "true",
		".spec.containers[0].securityContext.seccompProfile.type":    "RuntimeDefault",
		".spec.containers[0].securityContext.capabilities.drop[*]":   "ALL",
		".spec.containers[0].securityContext.capabilities.add[*]":    "SYS_ADMIN SYS_PTRACE BPF",
		`.metadata.labels.sidecar\.istio\.io/inject`:                 "false",
		`.metadata.annotations.linkerd\.io/inject`:                   "disabled",
		".spec.volumes[*].name":                                      "",
		".metadata.ownerReferences[?(@.kind=='Job')].controller":     "true",
		".spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].values[0]": nodeOf(t, s),
	} {
		got := mustKubectl(t, "-n", s.namespace, "get", "pods", "-l", agentLabel, "-o", "jsonpath={.items[0]"+field+"}")
		if got != want {
			t.Errorf("%s is %q, not %q", field, got, want)
		}
	}
	owner := mustKubectl(t, "-n", s.namespace, "get", "jobs", "-l", agentLabel, "-o", "jsonpath={.items[0].metadata.ownerReferences[0].kind}/{.items[0].metadata.ownerReferences[0].name}")
	if want := "Pod/" + s.pods(t)[0]; owner != want {
		t.Errorf("the Job belongs to %q, not to %q", owner, want)
	}
}

// nodeOf is where the only replica runs.
func nodeOf(tb testing.TB, s *shop) string {
	tb.Helper()
	return strings.TrimSpace(mustKubectl(tb, "-n", s.namespace, "get", "pod", s.pods(tb)[0], "-o", "jsonpath={.spec.nodeName}"))
}

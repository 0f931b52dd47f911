package agentpod

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"regexp"
	"strings"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// What Kubernetes is told about an agent's Job and pod.
const (
	prefix = "magpie-k8s.github.io/"

	labelName    = "app.kubernetes.io/name"
	labelManager = "app.kubernetes.io/managed-by"
	labelVersion = "app.kubernetes.io/version"
	labelTarget  = prefix + "target-uid" // one agent per pod is found by it

	annotationTarget = prefix + "target" // namespace/name, for people

	agentName = "magpie-agent"
	noTarget  = "none" // the value of labelTarget beside no pod
)

// selectAgents finds all agents but ephemeral ones.
const selectAgents = labelName + "=" + agentName + "," + labelManager + "=magpie"

// notMeshed keeps the meshes from putting a proxy into the agent's pod, by label and annotation as each wants it.
var (
	notMeshedLabels      = map[string]string{"sidecar.istio.io/inject": "false", "kuma.io/sidecar-injection": "disabled"}
	notMeshedAnnotations = map[string]string{
		"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled", "kuma.io/sidecar-injection": "disabled",
		"consul.hashicorp.com/connect-inject": "false",
	}
)

// uid is what the agent of a pod is found by.
func uid(pod cluster.Pod) string {
	if pod.UID == "" {
		return noTarget
	}
	return pod.UID
}

func labelsOf(pod cluster.Pod, s Settings, version string) map[string]string {
	labels := maps.Clone(notMeshedLabels)
	maps.Copy(labels, s.Labels)
	maps.Copy(labels, map[string]string{
		labelName: agentName, labelManager: "magpie", labelVersion: labelValue(version), labelTarget: uid(pod),
	})
	return labels
}

func annotationsOf(pod cluster.Pod, s Settings) map[string]string {
	annotations := maps.Clone(notMeshedAnnotations)
	maps.Copy(annotations, s.Annotations)
	if pod.Name != "" {
		annotations[annotationTarget] = pod.Namespace + "/" + pod.Name
	}
	return annotations
}

var notInLabel = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// labelValue makes what a label can hold of a version: v1.2.0+dirty becomes v1.2.0-dirty.
func labelValue(version string) string {
	const longest = 63
	value := notInLabel.ReplaceAllString(version, "-")
	return strings.Trim(value[:min(len(value), longest)], "-._")
}

// jobName is the same for all who mean the same pod, so that those who start an agent at once meet. When the Job of that
// name is ending, the next one is named after it, and they meet again.
func jobName(uid string) string {
	sum := sha256.Sum256([]byte(uid))
	return agentName + "-" + hex.EncodeToString(sum[:5])
}

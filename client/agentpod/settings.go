package agentpod

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	defaultImage = "magpie-k8s/magpie-agent"

	// defaultPatience is for an image that still has to be pulled; a refusal is told as soon as it is known.
	defaultPatience = 90 * time.Second
)

// Settings say how agents are started: the `agent:` section of the configuration file. The zero value works.
type Settings struct {
	Image              string                       `json:"image,omitempty"`              // magpie-k8s/magpie-agent of our own version if empty
	ImagePullPolicy    corev1.PullPolicy            `json:"imagePullPolicy,omitempty"`    // Always, IfNotPresent or Never; the cluster's choice if empty
	ImagePullSecrets   []string                     `json:"imagePullSecrets,omitempty"`   // names of secrets in the agent's namespace
	Namespace          string                       `json:"namespace,omitempty"`          // of the agents; the target's own if empty
	Labels             map[string]string            `json:"labels,omitempty"`             // more of them, on the Job and the pod
	Annotations        map[string]string            `json:"annotations,omitempty"`        // more of them, on the Job and the pod
	PriorityClassName  string                       `json:"priorityClassName,omitempty"`  //
	ServiceAccountName string                       `json:"serviceAccountName,omitempty"` // the agent never gets its token
	Tolerations        []corev1.Toleration          `json:"tolerations,omitempty"`        // of every taint if there are none
	Resources          *corev1.ResourceRequirements `json:"resources,omitempty"`          // 10m and 32Mi, at most 256Mi, if there are none
	Ephemeral          bool                         `json:"ephemeral,omitempty"`          // a container in the target's pod instead of a Job
	StartTimeout       metav1.Duration              `json:"startTimeout,omitempty"`       // 90s if zero
	LogLevel           string                       `json:"logLevel,omitempty"`           // info or debug
	Flush              bool                         `json:"-"`                            // of a session, not of a file: it may ask to close connections, see docs/SECURITY.md
}

// Check returns what no cluster could accept.
func (s Settings) Check() error {
	if !slices.Contains([]corev1.PullPolicy{"", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}, s.ImagePullPolicy) {
		return &Error{Cause: fmt.Sprintf("imagePullPolicy: there is no %q", s.ImagePullPolicy), Advice: "Always, IfNotPresent or Never"}
	}
	if !slices.Contains([]string{"", "info", "debug"}, s.LogLevel) {
		return &Error{Cause: fmt.Sprintf("logLevel: there is no %q", s.LogLevel), Advice: "info or debug"}
	}
	if strings.ContainsAny(s.Image, " \t\n") {
		return &Error{Cause: fmt.Sprintf("image: %q cannot be the name of an image", s.Image), Advice: "for example registry.example/magpie-agent:1.2.0"}
	}
	if s.StartTimeout.Duration < 0 {
		return &Error{Cause: fmt.Sprintf("startTimeout: %v is in the past", s.StartTimeout.Duration), Advice: "for example 2m"}
	}
	return s.checkNames()
}

func (s Settings) checkNames() error {
	names := map[string]string{"namespace": s.Namespace, "priorityClassName": s.PriorityClassName, "serviceAccountName": s.ServiceAccountName}
	for i, secret := range s.ImagePullSecrets {
		names[fmt.Sprintf("imagePullSecrets[%d]", i)] = secret
	}
	for _, key := range slices.Sorted(maps.Keys(names)) {
		if name := names[key]; name != "" && len(validation.IsDNS1123Subdomain(name)) > 0 {
			return &Error{Cause: fmt.Sprintf("%s: %q cannot be a name in Kubernetes", key, name), Advice: "a name is lower-case letters, digits, '-' and '.'"}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
		if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(s.Labels[key])) > 0 {
			return &Error{Cause: fmt.Sprintf("labels: %s=%s cannot be a label", key, s.Labels[key]), Advice: "see kubernetes.io/docs/concepts/overview/working-with-objects/labels"}
		}
		if strings.HasPrefix(key, prefix) {
			return &Error{Cause: fmt.Sprintf("labels: %s is Magpie's own", key), Advice: "choose another name"}
		}
	}
	return nil
}

// image is what to run. The version is that of the client.
func (s Settings) image(version string) string {
	if s.Image != "" {
		return s.Image
	}
	return defaultImage + ":" + strings.ReplaceAll(version, "+", "-")
}

func (s Settings) patience() time.Duration {
	if s.StartTimeout.Duration > 0 {
		return s.StartTimeout.Duration
	}
	return defaultPatience
}

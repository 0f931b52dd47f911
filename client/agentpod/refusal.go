package agentpod

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/magpie-k8s/magpie/wire"
)

// refusal returns why nothing will come of an agent's pod, and nil while it may.
func refusal(pod *corev1.Pod, container string) error {
	if err := unscheduled(pod); err != nil {
		return err
	}
	if s := statusOf(pod, container); s != nil {
		if err := stuck(s); err != nil {
			return err
		}
	}
	if pod.Status.Phase == corev1.PodFailed {
		why := line(pod.Status.Message)
		if why == "" {
			why = or(pod.Status.Reason, "the kubelet does not say why")
		}
		return &Error{Cause: fmt.Sprintf("start agent on node %s: %s", pod.Spec.NodeName, why), Advice: adviceFor(pod.Status.Reason + " " + why)}
	}
	return nil
}

// unscheduled is the scheduler's refusal. It looks again when something changes, but a developer who waits would not know for what.
func unscheduled(pod *corev1.Pod) error {
	if pod.Status.NominatedNodeName != "" { // others are being moved out of the way
		return nil
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			why, _, _ := strings.Cut(line(c.Message), " preemption:")
			return &Error{Cause: "start agent: no room on the target's node: " + why, Advice: adviceFor(why)}
		}
	}
	return nil
}

// Reasons of a waiting container that waiting longer does not help. The kubelet tries again, but what it says first is what it says last.
var (
	noImage = []string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"}
	noStart = []string{"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError"}
)

// stuck is for the agent's container, in a pod of its own or in the target's.
func stuck(s *corev1.ContainerStatus) error {
	switch w, t := s.State.Waiting, s.State.Terminated; {
	case w != nil && slices.Contains(noImage, w.Reason):
		return &Error{
			Cause:  fmt.Sprintf("pull agent's image %s: %s", s.Image, or(line(w.Message), w.Reason)),
			Advice: adviceForImage(w.Reason + " " + w.Message),
		}
	case w != nil && slices.Contains(noStart, w.Reason):
		return &Error{Cause: fmt.Sprintf("start agent: %s: %s", w.Reason, line(w.Message)), Advice: adviceFor(w.Message)}
	case t != nil && t.ExitCode != 0:
		return exit(s.Image, t)
	}
	return nil
}

// exit is what an agent said before it ended.
func exit(image string, t *corev1.ContainerStateTerminated) error {
	var said wire.Error
	if err := json.Unmarshal([]byte(t.Message), &said); err == nil && said.Cause != "" {
		said.Cause = "start agent: " + said.Cause
		return &said
	}
	cause := fmt.Sprintf("start agent: it ended with status %d: %s", t.ExitCode, or(line(t.Message), t.Reason))
	switch t.Reason {
	case "OOMKilled":
		return &Error{Cause: cause, Advice: "agent.resources gives it more memory"}
	case "StartError", "ContainerCannotRun":
		return &Error{Cause: cause, Advice: fmt.Sprintf("is %s an image of magpie-agent?", image)}
	}
	return &Error{Cause: cause, Advice: fmt.Sprintf("is %s an image of magpie-agent, of this version?", image)}
}

func adviceForImage(text string) string {
	switch {
	case strings.Contains(text, "InvalidImageName"):
		return "--agent-image names another, as registry.example/magpie-agent:1.2.0"
	case strings.Contains(text, "ErrImageNeverPull"):
		return "agent.imagePullPolicy is Never, and the node does not have it"
	case strings.Contains(text, "401"), strings.Contains(text, "403"), strings.Contains(text, "denied"), strings.Contains(text, "unauthorized"):
		return "the registry wants credentials: agent.imagePullSecrets names a secret; or --agent-image names another image"
	}
	return "does the node reach its registry? --agent-image or agent.image names another image"
}

// advice is for what the scheduler, the kubelet and admission say about a pod, by words in it.
var advice = []struct{ word, hint string }{
	{"violates PodSecurity", "put agents into a namespace of level privileged (agent.namespace), or ask for this one's label pod-security.kubernetes.io/enforce"},
	{"must specify", "the namespace's quota wants it: say it in agent.resources"},
	{"exceeded quota", "`kubectl describe quota` shows what is used up; agent.resources asks for less, agent.namespace goes elsewhere"},
	{"priorityclass", "agent.priorityClassName names another"},
	{"PriorityClass", "agent.priorityClassName names another"},
	{"serviceaccount", "agent.serviceAccountName names another"},
	{"service account", "agent.serviceAccountName names another"},
	{"admission webhook", "an admission rule of the cluster forbids it: ask who runs it; agent.labels and agent.annotations may be what it wants"},
	{"ValidatingAdmissionPolicy", "an admission rule of the cluster forbids it: ask who runs it"},
	{"maximum ", "the namespace's limit range wants it: say it in agent.resources"},
	{"minimum ", "the namespace's limit range wants it: say it in agent.resources"},
	{"untolerated taint", "agent.tolerations leaves it out; without that key the agent tolerates every taint"},
	{"Insufficient", "agent.resources asks for less; agent.priorityClassName moves others away"},
	{"OutOf", "agent.resources asks for less"},
	{"Too many pods", "the node takes no more pods; --ephemeral needs none of its own"},
	{"disk-pressure", "the node is short of disk"},
	{"memory-pressure", "the node is short of memory"},
	{"secret", "agent.imagePullSecrets names the ones there are"},
	{"NodeAffinity", "is the target's node still there?"}, // these two stand beside the others, for the other nodes
	{"node affinity", "is the target's node still there?"},
}

func adviceFor(text string) string {
	for _, a := range advice {
		if strings.Contains(text, a.word) {
			return a.hint
		}
	}
	return "`kubectl get events` tells more"
}

// line makes one line of a text.
func line(text string) string { return strings.Join(strings.Fields(text), " ") }

// inBrackets is what Pod Security adds to each thing that it forbids: the container, and the field, once more.
var inBrackets = regexp.MustCompile(` \((?:[^()]|\([^()]*\))*\)`)

// brief leaves of a refusal by Pod Security what is forbidden.
func brief(text string) string {
	before, after, found := strings.Cut(text, "violates PodSecurity")
	if !found {
		return text
	}
	return before + "violates PodSecurity" + inBrackets.ReplaceAllString(after, "")
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

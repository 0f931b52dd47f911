package agentpod

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestWhatKeepsAnAgentFromStartingIsExplained(t *testing.T) {
	waiting := func(reason, message string) corev1.PodStatus {
		state := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
		return corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: agentName, Image: "agent:1", State: state}}}
	}
	ended := func(status int32, reason, message string) corev1.PodStatus {
		state := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: status, Reason: reason, Message: message}}
		return corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{Name: agentName, Image: "agent:1", State: state}}}
	}
	unscheduled := func(message string) corev1.PodStatus {
		return corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: message,
		}}}
	}
	for _, c := range []struct {
		status      corev1.PodStatus
		cause, hint string
	}{
		{waiting("ErrImagePull", "rpc error: not found"), "pull agent's image agent:1: rpc error: not found", "--agent-image"},
		{waiting("ImagePullBackOff", ""), "pull agent's image agent:1: ImagePullBackOff", "--agent-image"},
		{waiting("ErrImagePull", "401 Unauthorized"), "401 Unauthorized", "agent.imagePullSecrets"},
		{waiting("InvalidImageName", "couldn't parse"), "couldn't parse", "--agent-image names another, as"},
		{waiting("ErrImageNeverPull", "not present"), "not present", "agent.imagePullPolicy is Never"},
		{waiting("CreateContainerError", "context\n deadline"), "start agent: CreateContainerError: context deadline", "kubectl get events"},
		{unscheduled("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match"), "no room on the target's node: 0/2", "agent.resources asks for less"},
		{unscheduled("0/2 nodes are available: 1 node(s) had untolerated taint {gpu: yes}"), "untolerated taint {gpu: yes}", "agent.tolerations"},
		{unscheduled("0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/2"), "[NodeAffinity].", "still there"},
		{unscheduled("0/1 nodes are available: 1 Too many pods"), "Too many pods", "--ephemeral"},
		{ended(1, "Error", `{"errno":95,"cause":"attach: kernel 4.4","hint":"needs Linux 5.9"}`), "start agent: attach: kernel 4.4", "needs Linux 5.9"},
		{ended(137, "OOMKilled", ""), "it ended with status 137: OOMKilled", "agent.resources gives it more"},
		{ended(128, "StartError", "exec: \"/magpie-agent\": no such file"), "no such file", "is agent:1 an image of magpie-agent"},
		{ended(2, "Error", ""), "it ended with status 2: Error", "of this version"},
		{corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "Node didn't have enough resource"}, "Node didn't have enough", "agent.resources asks for less"},
		{corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}, "Evicted", "kubectl get events"},
	} {
		err := refusal(&corev1.Pod{Spec: corev1.PodSpec{NodeName: "node1"}, Status: c.status}, agentName)
		var hinted interface{ Hint() string }
		if !errors.As(err, &hinted) || !strings.Contains(err.Error(), c.cause) || !strings.Contains(hinted.Hint(), c.hint) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v (%v); want %s (%s)", err, hinted, c.cause, c.hint)
		}
	}
}

func TestAgentsOwnWordsKeepTheirErrno(t *testing.T) {
	err := exit("agent:1", &corev1.ContainerStateTerminated{ExitCode: 1, Message: `{"errno":1,"cause":"load steal: operation not permitted"}`})
	if !errors.Is(err, syscall.EPERM) {
		t.Errorf("%v is no EPERM", err)
	}
}

func TestPodSecurityIsQuotedBriefly(t *testing.T) {
	said := `pods "a" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostPID=true), unrestricted capabilities (container "a" must not include "BPF" in x), profile (a (b) c)`
	want := `pods "a" is forbidden: violates PodSecurity "restricted:latest": host namespaces, unrestricted capabilities, profile`
	if got := brief(said); got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func TestAnAgentThatMayComeIsWaitedFor(t *testing.T) {
	creating := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
	for name, status := range map[string]corev1.PodStatus{
		"new":       {},
		"creating":  {ContainerStatuses: []corev1.ContainerStatus{{Name: agentName, State: creating}}},
		"preparing": {Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulerError}}},
		"preempting": {NominatedNodeName: "node1", Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
		}}},
		"another's trouble": {ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}},
		}}},
	} {
		if err := refusal(&corev1.Pod{Status: status}, agentName); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

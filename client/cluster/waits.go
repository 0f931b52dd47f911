package cluster

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// waits says in one line what keeps a pod from being ready, and in another what to look at. Order is that of a pod's life: the first thing that
// is missing is the reason for all that follow.
func waits(pod *corev1.Pod) (cause, hint string) {
	describe := fmt.Sprintf("`kubectl -n %s describe pod %s` tells more", pod.Namespace, pod.Name)
	switch scheduled := condition(pod, corev1.PodScheduled); {
	case pod.DeletionTimestamp != nil:
		return "it is being deleted", "wait for the pod that takes its place"
	case over(pod):
		return ended(pod), describe
	case scheduled != nil && scheduled.Status == corev1.ConditionFalse && scheduled.Reason == corev1.PodReasonSchedulingGated:
		return "it is held back by a scheduling gate", describe
	case scheduled != nil && scheduled.Status == corev1.ConditionFalse:
		message, _, _ := strings.Cut(scheduled.Message, " preemption:") // why no other pod had to go: nobody asked
		return "it has no node: " + line(message), describe
	case pod.Spec.NodeName == "":
		return "it has no node yet", describe
	}
	for _, status := range pod.Status.InitContainerStatuses {
		if cause, hint := waitsFor(pod, "init container", status); cause != "" {
			return cause, hint
		}
	}
	for _, status := range pod.Status.ContainerStatuses {
		if cause, hint := waitsFor(pod, "container", status); cause != "" {
			return cause, hint
		}
	}
	return unmet(pod), describe
}

func ended(pod *corev1.Pod) string {
	if pod.Status.Phase == corev1.PodSucceeded {
		return "it has completed"
	}
	return strings.TrimSuffix(fmt.Sprintf("it has failed: %s: %s", or(pod.Status.Reason, "Failed"), line(pod.Status.Message)), ": ")
}

// waitsFor returns "" for a container that is as it should be.
func waitsFor(pod *corev1.Pod, what string, s corev1.ContainerStatus) (cause, hint string) {
	name := fmt.Sprintf("%s %s", what, s.Name)
	describe := fmt.Sprintf("`kubectl -n %s describe pod %s` tells more", pod.Namespace, pod.Name)
	logs := fmt.Sprintf("see `kubectl -n %s logs %s -c %s`", pod.Namespace, pod.Name, s.Name)
	spec := specOf(pod, s.Name)
	init := what != "container" && (spec == nil || !stays(*spec))
	switch w, r, t := s.State.Waiting, s.State.Running, s.State.Terminated; {
	case w != nil && w.Reason == "CrashLoopBackOff":
		return fmt.Sprintf("%s crashes again and again (CrashLoopBackOff)%s", name, lastEnd(s)), logs
	case w != nil && w.Reason == "PodInitializing":
		return "", "" // the init containers' own states say more
	case w != nil && w.Reason == "ContainerCreating":
		return name + " is being created (image, volumes, network)", describe
	case w != nil:
		return strings.TrimSuffix(fmt.Sprintf("%s waits: %s: %s", name, or(w.Reason, "starting"), line(w.Message)), ": "), describe
	case t != nil && init && t.ExitCode == 0:
		return "", ""
	case t != nil:
		return name + " " + end(t), logs
	case r != nil && init:
		return name + " still runs", logs
	case r != nil && s.Started != nil && !*s.Started && spec != nil && spec.StartupProbe != nil:
		return fmt.Sprintf("startup probe of %s has not succeeded yet", name), describe
	case r != nil && !s.Ready && spec != nil && spec.ReadinessProbe != nil:
		return fmt.Sprintf("readiness probe of %s fails", name), describe
	case r != nil && !s.Ready && !init:
		return name + " is not ready yet", describe
	}
	return "", ""
}

func specOf(pod *corev1.Pod, name string) *corev1.Container {
	for _, all := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range all {
			if all[i].Name == name {
				return &all[i]
			}
		}
	}
	return nil
}

func lastEnd(s corev1.ContainerStatus) string {
	if t := s.LastTerminationState.Terminated; t != nil {
		return ": it " + end(t)
	}
	return ""
}

func end(t *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("ended with status %d", t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed" {
		text += " (" + t.Reason + ")"
	}
	if t.Message != "" {
		text += ": " + line(t.Message)
	}
	return text
}

// unmet is for pods whose containers are all well.
func unmet(pod *corev1.Pod) string {
	for _, gate := range pod.Spec.ReadinessGates {
		if !holds(pod, gate.ConditionType) {
			return fmt.Sprintf("readiness gate %s is not met", gate.ConditionType)
		}
	}
	switch c := condition(pod, corev1.PodReady); {
	case c != nil && c.Status == corev1.ConditionUnknown, holds(pod, corev1.ContainersReady):
		return fmt.Sprintf("it is not ready: does node %s answer?", pod.Spec.NodeName)
	case len(pod.Status.ContainerStatuses) == 0:
		return fmt.Sprintf("it has not been taken up by the kubelet on %s yet", pod.Spec.NodeName)
	case c != nil && c.Message != "":
		return "it is not ready: " + line(c.Message)
	}
	return "it is not ready yet"
}

// longLine bounds what others say in a line of ours.
const longLine = 300

// line is text as one line.
func line(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > longLine {
		text = strings.ToValidUTF8(text[:longLine], "") + "…"
	}
	return text
}

func or(text, instead string) string {
	if text == "" {
		return instead
	}
	return text
}

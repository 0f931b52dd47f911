package cluster

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pending is a pod of two containers on node n1; change makes it what the test needs.
func pending(change func(*corev1.Pod)) *corev1.Pod {
	pod := of("", "init:setup", "web", "logs")
	pod.Namespace, pod.Name, pod.Spec.NodeName, pod.Status.Phase = "dev", "ems-1", "n1", corev1.PodPending
	change(pod)
	return pod
}

func waiting(name, reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
}

func running(name string, ready bool) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, Ready: ready, State: corev1.ContainerState{Running: new(corev1.ContainerStateRunning)}}
}

func terminated(name string, status int32, reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: status, Reason: reason}}}
}

func TestAPodThatIsNotReadySaysWhatItWaitsFor(t *testing.T) {
	no := false
	for _, c := range []struct {
		want, hint string
		change     func(*corev1.Pod)
	}{
		{"it is being deleted", "takes its place", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Now()} }},
		{"it has completed", "describe pod ems-1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }},
		{"it has failed: Evicted: The node was low on memory", "describe", func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "The node was low\n on memory"
		}},
		{"it has no node: 0/2 nodes are available: 2 Insufficient cpu.", "describe", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
				Message: "0/2 nodes are available: 2 Insufficient cpu."}}
		}},
		{"it is held back by a scheduling gate", "", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated}}
		}},
		{"it has no node yet", "", func(p *corev1.Pod) { p.Spec.NodeName = "" }},
		{"it has not been taken up by the kubelet on n1 yet", "", func(*corev1.Pod) {}},
		{"container web waits: ImagePullBackOff: Back-off pulling image \"x\"", "describe", func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{terminated("setup", 0, "Completed")}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("web", "ImagePullBackOff", `Back-off pulling image "x"`)}
		}},
		{"container web is being created (image, volumes, network)", "describe", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("web", "ContainerCreating", "")}
		}},
		{"container web waits: CreateContainerConfigError: secret \"s\" not found", "", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("web", "CreateContainerConfigError", `secret "s" not found`)}
		}},
		{"container web crashes again and again (CrashLoopBackOff): it ended with status 137 (OOMKilled)", "logs ems-1 -c web`", func(p *corev1.Pod) {
			web := waiting("web", "CrashLoopBackOff", "back-off 10s")
			web.LastTerminationState = terminated("web", 137, "OOMKilled").State
			p.Status.ContainerStatuses = []corev1.ContainerStatus{web}
		}},
		{"container logs ended with status 1", "logs ems-1 -c logs", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{running("web", true), terminated("logs", 1, "Error")}
		}},
		{"init container setup still runs", "logs ems-1 -c setup", func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{running("setup", false)}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("web", "PodInitializing", "")}
		}},
		{"init container setup ended with status 2", "logs ems-1 -c setup", func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{terminated("setup", 2, "Error")}
		}},
		{"readiness probe of container web fails", "describe", func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = new(corev1.Probe)
			p.Status.ContainerStatuses = []corev1.ContainerStatus{running("web", false)}
		}},
		{"startup probe of container web has not succeeded yet", "describe", func(p *corev1.Pod) {
			p.Spec.Containers[0].StartupProbe = new(corev1.Probe)
			web := running("web", false)
			web.Started = &no
			p.Status.ContainerStatuses = []corev1.ContainerStatus{web}
		}},
		{"readiness gate lb/ready is not met", "", func(p *corev1.Pod) {
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "lb/ready"}}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{running("web", true), running("logs", true)}
		}},
		{"it is not ready: does node n1 answer?", "", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{running("web", true), running("logs", true)}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionUnknown}}
		}},
	} {
		cause, hint := waits(pending(c.change))
		if cause != c.want || !strings.Contains(hint, c.hint) {
			t.Errorf("waits: %q (hint %q); want %q (hint with %q)", cause, hint, c.want, c.hint)
		}
	}
}

func TestTheNewestLivingPodSpeaksForAll(t *testing.T) {
	old := pending(func(p *corev1.Pod) {
		p.Name, p.Status.Phase = "ems-0", corev1.PodFailed
		p.CreationTimestamp = metav1.Unix(2, 0)
	})
	young := pending(func(p *corev1.Pod) {
		p.CreationTimestamp = metav1.Unix(1, 0)
		p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("web", "ErrImagePull", "no such image")}
	})
	err := notReady(Target{Kind: KindDeployment, Name: "ems"}, []*corev1.Pod{old, young})
	if want := "deploy/ems has no ready pod: ems-1: container web waits: ErrImagePull: no such image (1 of 2 pods)"; err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	err = notReady(Target{Kind: KindPod, Name: "ems-1"}, []*corev1.Pod{young})
	if want := "pod/ems-1 is not ready: container web waits: ErrImagePull: no such image"; err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

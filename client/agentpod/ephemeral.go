package agentpod

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// Ephemeral agents are named magpie-agent-1, -2, …: none can ever be removed from its pod, nor started again.
	ephemeralPrefix = agentName + "-"

	// envVersion tells the version of an ephemeral agent; there is no label to do it.
	envVersion = "MAGPIE_VERSION"
)

// enterEphemeral enters an agent that runs in the pod already; nil if there is none. It is entered whatever the settings say: two agents
// on one pod would pass connections to each other.
func (p plan) enterEphemeral(ctx context.Context, left *leaving) (*Agent, error) {
	if p.pod.Pod == nil {
		return nil, nil
	}
	found := liveEphemeral(p.pod.Pod, left)
	if found == nil {
		return nil, nil
	}
	return p.waitEphemeral(ctx, left, p.pod.Pod, found.Name, false)
}

// startEphemeral adds an agent to the pod.
func (p plan) startEphemeral(ctx context.Context, left *leaving) (*Agent, error) {
	pods := p.cluster.Client().CoreV1().Pods(p.pod.Namespace)
	pod, err := pods.Get(ctx, p.pod.Name, metav1.GetOptions{})
	if err != nil {
		return nil, p.explain(ctx, "start ephemeral agent", err)
	}
	if found := liveEphemeral(pod, left); found != nil {
		return p.waitEphemeral(ctx, left, pod, found.Name, false)
	}
	name := nextEphemeral(pod)
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"ephemeralContainers": []any{ephemeral(name, p, pod)}}})
	if err != nil {
		return nil, fmt.Errorf("start ephemeral agent: %w", err)
	}
	// Two developers who do this at once choose the same name, and so the second patch changes nothing.
	pod, err = pods.Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "ephemeralcontainers")
	switch {
	case apierrors.IsInvalid(err), apierrors.IsConflict(err): // somebody's is there, and it is another
		return nil, fmt.Errorf("start ephemeral agent: %w: %w", ErrGone, err)
	case err != nil:
		return nil, p.refusedJob(ctx, err)
	}
	return p.waitEphemeral(ctx, left, pod, name, true)
}

func (p plan) waitEphemeral(ctx context.Context, left *leaving, pod *corev1.Pod, name string, ours bool) (*Agent, error) {
	c := ephemeralNamed(pod, name)
	if c == nil {
		return nil, fmt.Errorf("start ephemeral agent: %s does not take any", p.beside())
	}
	if err := Fits(versionOf(c), p.version); err != nil {
		return nil, err
	}
	if c.TargetContainerName != p.pod.Container {
		return nil, &Error{
			Cause:  fmt.Sprintf("an ephemeral agent stands beside container %s of %s, and sees no other", c.TargetContainerName, p.beside()),
			Advice: "use that container, or go without --ephemeral once its last session has ended",
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := p.newVigil(left)
	v.container, v.pod, v.ours = name, pod, ours
	only := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", pod.Name).String()}
	return v.watch(ctx, p.followPods(ctx, pod.Namespace, only, pod.ResourceVersion))
}

// liveEphemeral is the agent in the pod that has not ended.
func liveEphemeral(pod *corev1.Pod, left *leaving) *corev1.EphemeralContainer {
	for i := range pod.Spec.EphemeralContainers {
		c := &pod.Spec.EphemeralContainers[i]
		s := statusOf(pod, c.Name)
		ended := s != nil && s.State.Terminated != nil
		if strings.HasPrefix(c.Name, ephemeralPrefix) && !ended && !left.has(inside(pod, c.Name)) {
			return c
		}
	}
	return nil
}

func ephemeralNamed(pod *corev1.Pod, name string) *corev1.EphemeralContainer {
	for i := range pod.Spec.EphemeralContainers {
		if c := &pod.Spec.EphemeralContainers[i]; c.Name == name {
			return c
		}
	}
	return nil
}

func versionOf(c *corev1.EphemeralContainer) string {
	for _, e := range c.Env {
		if e.Name == envVersion {
			return e.Value
		}
	}
	return ""
}

// inside is what an ephemeral agent is noted by when it is ending.
func inside(pod *corev1.Pod, container string) types.UID { return pod.UID + "/" + types.UID(container) }

func nextEphemeral(pod *corev1.Pod) string {
	last := 0
	for _, c := range pod.Spec.EphemeralContainers {
		if number, ok := strings.CutPrefix(c.Name, ephemeralPrefix); ok {
			n, _ := strconv.Atoi(number)
			last = max(last, n)
		}
	}
	return ephemeralPrefix + strconv.Itoa(last+1)
}

// ephemeral shares the target's namespaces already, but for the one of files: its socket is out of the target's reach.
func ephemeral(name string, p plan, pod *corev1.Pod) corev1.EphemeralContainer {
	c := container(p)
	c.SecurityContext.ReadOnlyRootFilesystem = new(false)
	c.SecurityContext.Capabilities.Add = ephemeralRights
	target := "pid/1" // the target's first process, as the namespace of processes is its own
	if shared := pod.Spec.ShareProcessNamespace; pod.Spec.HostPID || shared != nil && *shared {
		target = containerTarget(p.pod)
	}
	return corev1.EphemeralContainer{
		TargetContainerName: p.pod.Container,
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name:                     name,
			Image:                    c.Image,
			ImagePullPolicy:          c.ImagePullPolicy,
			Args:                     arguments(p, target, "unix:"+socket),
			TerminationMessagePolicy: c.TerminationMessagePolicy,
			SecurityContext:          c.SecurityContext,
			Env:                      []corev1.EnvVar{{Name: envVersion, Value: p.version}},
		},
	}
}

package agentpod

import (
	"context"
	"errors"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/magpie-k8s/magpie/wire"
)

const (
	// Knocks come this often at first and at last. The kubelet reports once a second what its containers do, so knocking
	// is how to know earlier; but each knock is a connection.
	firstPause, lastPause = 40 * time.Millisecond, time.Second

	// settled is how long after its start an agent that does not listen is not coming, but going.
	settled = 5 * time.Second

	// eventPause is between looks at why a Job has no pod yet.
	eventPause = 500 * time.Millisecond

	// cleanupTime bounds the deletion of what did not start.
	cleanupTime = 5 * time.Second
)

// A vigil waits for an agent's pod to come, and for the agent in it to answer.
type vigil struct {
	plan
	left *leaving
	job  *batchv1.Job // that the pod belongs to, if we know it
	ours bool         // we have created it
	pod  *corev1.Pod  // nil until it is there

	container string // the agent's, in the pod
	began     time.Time
	knock     chan knock // the result of the one that is under way
	busy      bool
	pause     time.Duration
}

type knock struct {
	agent *Agent
	bond  *wire.Bond
	err   error
}

func (p plan) newVigil(left *leaving) *vigil {
	return &vigil{plan: p, left: left, container: agentName, began: time.Now(), knock: make(chan knock, 1), pause: firstPause}
}

// start creates the Job, and watches from before it has a pod.
func (v *vigil) start(ctx context.Context, version string) (a *Agent, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pods := v.follow(ctx, version)
	if v.job, v.ours, err = v.createJob(ctx, v.left); err != nil {
		return nil, err
	}
	what := "agent's job created"
	if !v.ours {
		what = "agent's job found"
	}
	v.step(what, v.began, v.job.Name)
	return v.watch(ctx, pods)
}

// wait is for an agent that somebody started. Most often it listens, and nothing needs to be watched.
func (v *vigil) wait(ctx context.Context, version string) (*Agent, error) {
	if runs(v.pod, v.container) {
		v.try(ctx)
		if a, err := v.heard(<-v.knock); a != nil || err != nil {
			return a, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return v.watch(ctx, v.follow(ctx, version))
}

// watch returns the agent once it answers, or why it will not.
func (v *vigil) watch(ctx context.Context, pods <-chan *corev1.Pod) (a *Agent, err error) {
	defer func() {
		v.stop()
		if err != nil && !errors.Is(err, ErrGone) {
			v.clean(ctx)
		}
	}()
	if v.pod != nil {
		if err := refusal(v.pod, v.container); err != nil {
			return nil, err
		}
	}
	next, look := time.NewTimer(0), time.NewTicker(eventPause)
	defer next.Stop()
	defer look.Stop()
	for {
		select {
		case pod := <-pods:
			if err := v.saw(pod); err != nil {
				return nil, err
			}
			next.Reset(0)
		case <-next.C:
			v.try(ctx)
		case k := <-v.knock:
			if a, err := v.heard(k); a != nil || err != nil {
				return a, err
			}
			next.Reset(v.pause)
			v.pause = min(v.pause*5/4, lastPause)
		case <-look.C:
			if err := v.whyNoPod(ctx); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, v.tooLate(ctx)
		}
	}
}

// saw takes in what has become of a pod.
func (v *vigil) saw(pod *corev1.Pod) error {
	switch {
	case v.left.has(pod.UID):
		return nil
	case v.pod != nil && pod.UID != v.pod.UID && (ending(pod) || pod.CreationTimestamp.Before(&v.pod.CreationTimestamp)):
		return nil
	case ending(pod) && v.pod == nil:
		return nil // another one, that was there before
	case ending(pod):
		return v.gone(pod)
	}
	if v.pod == nil {
		v.step("agent's pod created", v.began, pod.Name)
	}
	if assigned(pod) && !assigned(v.pod) {
		v.step("agent's pod scheduled", v.began, pod.Spec.NodeName)
	}
	if runs(pod, v.container) && !runs(v.pod, v.container) {
		v.step("agent's container reported running", v.began, "")
	}
	v.pod, v.pause = pod, firstPause
	if s := statusOf(pod, v.container); s != nil && s.State.Terminated != nil && s.State.Terminated.ExitCode == 0 {
		return v.gone(pod)
	}
	return refusal(pod, v.container)
}

// gone notes that a pod is ending.
func (v *vigil) gone(pod *corev1.Pod) error {
	if v.container == agentName {
		v.left.note(pod)
	} else {
		v.left.known[inside(pod, v.container)] = true
	}
	return ErrGone
}

// try knocks at the agent, unless it cannot be there or a knock is under way.
func (v *vigil) try(ctx context.Context) {
	if v.busy || !assigned(v.pod) {
		return
	}
	v.busy = true
	a := v.agent()
	go func() {
		bond, err := a.open(ctx)
		v.knock <- knock{a, bond, err}
	}()
}

func (v *vigil) agent() (a *Agent) {
	if v.container != agentName {
		a = inPod(v.cluster, v.pod, v.container)
	} else if a = ofPod(v.cluster, v.pod); v.plan.pod.UID != "" {
		a.target = containerTarget(v.plan.pod)
	}
	a.started = v.ours
	return a
}

// heard judges a knock: an agent, an error that will stay, or neither yet.
func (v *vigil) heard(k knock) (*Agent, error) {
	v.busy = false
	switch {
	case k.err == nil:
		k.agent.ready = k.bond
		v.step("agent answers", v.began, "")
		return k.agent, nil
	case apierrors.IsForbidden(k.err), apierrors.IsUnauthorized(k.err):
		return nil, k.err
	case errors.Is(k.err, ErrGone) && runsFor(v.pod, v.container) > settled:
		return nil, v.gone(v.pod)
	}
	return nil, nil
}

// stop ends the knock that is under way.
func (v *vigil) stop() {
	if !v.busy {
		return
	}
	go func() {
		if k := <-v.knock; k.bond != nil {
			k.bond.Close()
		}
	}()
}

// clean deletes the Job that did not come to anything, whoever created it: all who wait for it see the same.
func (v *vigil) clean(ctx context.Context) {
	job := v.jobName()
	if job == "" || !v.ours && v.pod != nil && runs(v.pod, v.container) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	_ = v.cluster.Client().BatchV1().Jobs(v.namespace()).Delete(ctx, job, metav1.DeleteOptions{
		PropagationPolicy: new(metav1.DeletePropagationBackground),
	})
}

func (v *vigil) jobName() string {
	if v.job != nil {
		return v.job.Name
	}
	if v.pod != nil {
		if owner := metav1.GetControllerOf(v.pod); owner != nil && owner.Kind == "Job" {
			return owner.Name
		}
	}
	return ""
}

func assigned(pod *corev1.Pod) bool { return pod != nil && pod.Spec.NodeName != "" }

// statusOf is that of the agent's container, in a pod of its own or in the target's.
func statusOf(pod *corev1.Pod, container string) *corev1.ContainerStatus {
	for _, all := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range all {
			if all[i].Name == container {
				return &all[i]
			}
		}
	}
	return nil
}

// runs reports whether the kubelet has told that the container does.
func runs(pod *corev1.Pod, container string) bool {
	if pod == nil {
		return false
	}
	s := statusOf(pod, container)
	return s != nil && s.State.Running != nil
}

// runsFor is how long it does; the clocks may differ a little.
func runsFor(pod *corev1.Pod, container string) time.Duration {
	if !runs(pod, container) {
		return 0
	}
	return time.Since(statusOf(pod, container).State.Running.StartedAt.Time)
}

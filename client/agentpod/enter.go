package agentpod

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// manyLeaving is how many agents in a row may be about to leave when they are found.
const manyLeaving = 5

// Enter finds the agent of a pod, whoever started it, or starts one, and returns when it listens. The zero pod stands for none: an agent
// without a target. Step is told the parts of the way as they are done, and how long each took; it may be nil.
func Enter(ctx context.Context, c *cluster.Cluster, pod cluster.Pod, s Settings, version string, linger time.Duration, step func(what, detail string)) (*Agent, error) {
	p := plan{cluster: c, pod: pod, settings: s, version: version, linger: linger, told: step}
	late := &Error{Cause: fmt.Sprintf("no agent beside %s within %v", p.beside(), s.patience())}
	bounded, cancel := context.WithTimeoutCause(ctx, s.patience(), late)
	defer cancel()
	left := newLeaving()
	for range manyLeaving {
		a, err := p.enter(bounded, left)
		if !errors.Is(err, ErrGone) {
			return a, err
		}
	}
	return nil, fmt.Errorf("enter %s: %w, one after the other", p.beside(), ErrGone)
}

// enter tries once. ErrGone says that the agent it found is ending, and is in left now.
func (p plan) enter(ctx context.Context, left *leaving) (*Agent, error) {
	if a, err := p.enterEphemeral(ctx, left); a != nil || err != nil {
		return a, err
	}
	began := time.Now()
	list, err := p.list(ctx)
	if err != nil {
		return nil, err
	}
	found := newest(list.Items, left)
	if found == nil && p.settings.Ephemeral && p.pod.UID != "" {
		return p.startEphemeral(ctx, left)
	}
	v := p.newVigil(left)
	if found != nil {
		p.step("agent found", began, found.Name)
		if err := Fits(found.Labels[labelVersion], p.version); err != nil {
			return nil, err
		}
		v.pod = found
		return v.wait(ctx, list.ResourceVersion)
	}
	return v.start(ctx, list.ResourceVersion)
}

func (p plan) list(ctx context.Context) (*corev1.PodList, error) {
	list, err := p.cluster.Client().CoreV1().Pods(p.namespace()).List(ctx, p.selection())
	if err != nil {
		return nil, p.explain(ctx, "look for an agent", err)
	}
	return list, nil
}

func (p plan) selection() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: selectAgents + "," + labelTarget + "=" + uid(p.pod)}
}

// newest is the pod of the agent to enter, if there is one. The others that are ending are noted.
func newest(pods []corev1.Pod, left *leaving) *corev1.Pod {
	var found *corev1.Pod
	for i := range pods {
		pod := &pods[i]
		if ending(pod) || pod.Status.Phase == corev1.PodFailed {
			left.note(pod)
		}
		if !left.has(pod.UID) && (found == nil || found.CreationTimestamp.Before(&pod.CreationTimestamp)) {
			found = pod
		}
	}
	return found
}

// ending reports whether nothing can come of a pod any more, in peace.
func ending(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded
}

// leaving holds the agents' pods that are ending, and their Jobs.
type leaving struct {
	known map[types.UID]bool
	job   types.UID   // of the newest of the pods: the next one is named after it
	since metav1.Time // when the pod was created
}

func newLeaving() *leaving { return &leaving{known: map[types.UID]bool{}} }

func (l *leaving) has(uid types.UID) bool { return l.known[uid] }

func (l *leaving) note(pod *corev1.Pod) {
	l.known[pod.UID] = true
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return
	}
	l.known[owner.UID] = true
	// Times are in seconds. All who see the same pods must choose the same one.
	if at := pod.CreationTimestamp; l.since.Before(&at) || l.since.Equal(&at) && l.job < owner.UID {
		l.job, l.since = owner.UID, at
	}
}

// createJob creates the Job of the pod's agent, or returns the one that somebody else has just created.
func (p plan) createJob(ctx context.Context, left *leaving) (job *batchv1.Job, ours bool, err error) {
	jobs := p.cluster.Client().BatchV1().Jobs(p.namespace())
	name := jobName(p.namespace() + "/" + uid(p.pod))
	if left.job != "" { // others find its Job still there, or deleted: they must not choose differently
		name = jobName(string(left.job))
	}
	for range manyLeaving {
		job, err := jobs.Create(ctx, newJob(name, p), metav1.CreateOptions{})
		if err == nil {
			return job, true, nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return nil, false, p.refusedJob(ctx, err)
		}
		job, err = jobs.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err): // gone in between: its name is free
			continue
		case err != nil:
			return nil, false, p.explain(ctx, "start agent", err)
		case !left.has(job.UID) && job.DeletionTimestamp == nil && !finished(job):
			return job, false, nil
		}
		name = jobName(string(job.UID))
	}
	return nil, false, fmt.Errorf("start agent: %w, one after the other", ErrGone)
}

func finished(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
}

// explain turns an error of the API server into ours; the end of our own patience is told as such.
func (p plan) explain(ctx context.Context, doing string, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.As(cause, new(*Error)) {
		return cause
	}
	return cluster.Explain(doing+" beside "+p.beside(), err)
}

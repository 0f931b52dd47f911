package agentpod

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/magpie-k8s/magpie/client/cluster"
)

var ems = cluster.Pod{Namespace: "dev", Name: "ems-1", UID: "7d0c", Node: "node1", Container: "web", ContainerID: "containerd://0123456789abcdef"}

func TestAgentIsNotPrivilegedAndGoesWithItsTarget(t *testing.T) {
	job := newJob("agent", plan{pod: ems, version: "v1.2.0", linger: time.Minute})
	spec := job.Spec.Template.Spec
	c := spec.Containers[0]
	switch {
	case *c.SecurityContext.Privileged, spec.HostNetwork, *spec.AutomountServiceAccountToken, len(spec.Volumes) > 0:
		t.Errorf("more rights than an agent may have: %+v", spec)
	case !*c.SecurityContext.ReadOnlyRootFilesystem, !slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}):
		t.Errorf("not confined: %+v", c.SecurityContext)
	case c.Resources.Limits.Memory().IsZero(), !c.Resources.Limits.Cpu().IsZero(), c.Resources.Requests.Cpu().IsZero():
		t.Errorf("resources %+v", c.Resources)
	case *job.Spec.BackoffLimit != 0, *job.Spec.TTLSecondsAfterFinished != 0, spec.RestartPolicy != corev1.RestartPolicyNever:
		t.Errorf("it may come again or stay: %+v", job.Spec)
	case len(job.OwnerReferences) != 1, string(job.OwnerReferences[0].UID) != ems.UID:
		t.Errorf("owners %+v", job.OwnerReferences)
	case *spec.TerminationGracePeriodSeconds != 70:
		t.Errorf("%d s to end", *spec.TerminationGracePeriodSeconds)
	}
	if want := []string{"serve", "--target", "container/0123456789abcdef", "--listen", "tcp:127.0.0.1:5040", "--linger", "1m0s", "--node", "node1"}; !slices.Equal(c.Args, want) {
		t.Errorf("arguments %q; want %q", c.Args, want)
	}
}

func TestAgentBesideNoPodNeedsNoRights(t *testing.T) {
	job := newJob("agent", plan{pod: cluster.Pod{Namespace: "dev"}, version: "v1.2.0"})
	spec := job.Spec.Template.Spec
	c := spec.Containers[0].SecurityContext
	if spec.HostPID || len(c.Capabilities.Add) > 0 || !*c.RunAsNonRoot || *c.AllowPrivilegeEscalation || c.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("rights: hostPID %v, %+v", spec.HostPID, c)
	}
	if job.Labels[labelTarget] != noTarget || len(job.OwnerReferences) > 0 || spec.Affinity != nil {
		t.Errorf("it belongs somewhere: %+v", job)
	}
}

// TestTheRightToCloseConnectionsIsAskedForOnlyToFlush in a Job; an ephemeral agent, which has it at first anyway, is told whether to keep it.
func TestTheRightToCloseConnectionsIsAskedForOnlyToFlush(t *testing.T) {
	for _, flush := range []bool{false, true} {
		p := plan{pod: ems, version: "v1.2.0", settings: Settings{Flush: flush}}
		job, beside := container(p), ephemeral("magpie-agent-1", p, &corev1.Pod{})
		if got := slices.Contains(job.SecurityContext.Capabilities.Add, "NET_ADMIN"); got != flush {
			t.Errorf("flush %v: a Job with %v", flush, job.SecurityContext.Capabilities.Add)
		}
		if got := beside.SecurityContext.Capabilities.Add; !slices.Equal(got, ephemeralRights) {
			t.Errorf("flush %v: an ephemeral container with %v", flush, got)
		}
		for _, args := range [][]string{job.Args, beside.Args} {
			if slices.Contains(args, "--flush") != flush {
				t.Errorf("flush %v: %v", flush, args)
			}
		}
	}
	alone := container(plan{settings: Settings{Flush: true}})
	if len(alone.SecurityContext.Capabilities.Add) > 0 || slices.Contains(alone.Args, "--flush") {
		t.Errorf("beside no pod: %v with %v", alone.Args, alone.SecurityContext.Capabilities.Add)
	}
	if slices.Contains(rights, "NET_ADMIN") {
		t.Errorf("the next one gets it, too: %v", rights)
	}
}

func TestAgentInAnotherNamespaceHasNoOwner(t *testing.T) {
	job := newJob("agent", plan{pod: ems, settings: Settings{Namespace: "magpie"}})
	if job.Namespace != "magpie" || len(job.OwnerReferences) > 0 || job.Annotations[annotationTarget] != "dev/ems-1" {
		t.Errorf("%+v", job.ObjectMeta)
	}
}

func TestSettingsReachTheAgent(t *testing.T) {
	s := Settings{
		Image: "registry.example/agent:1", ImagePullPolicy: corev1.PullAlways, ImagePullSecrets: []string{"pull"}, PriorityClassName: "high",
		ServiceAccountName: "agent", Tolerations: []corev1.Toleration{{Key: "gpu"}}, LogLevel: "debug",
		Labels: map[string]string{"team": "a", labelTarget: "mine"}, Annotations: map[string]string{"note": "b"},
	}
	job := newJob("agent", plan{pod: ems, settings: s})
	spec := job.Spec.Template.Spec
	c := spec.Containers[0]
	if c.Image != s.Image || c.ImagePullPolicy != s.ImagePullPolicy || spec.ImagePullSecrets[0].Name != "pull" || spec.PriorityClassName != "high" ||
		spec.ServiceAccountName != "agent" || spec.Tolerations[0].Key != "gpu" || !slices.Contains(c.Args, "--debug") {
		t.Errorf("%+v", spec)
	}
	for _, m := range []metav1.ObjectMeta{job.ObjectMeta, job.Spec.Template.ObjectMeta} {
		if m.Labels["team"] != "a" || m.Annotations["note"] != "b" || m.Labels[labelTarget] != ems.UID {
			t.Errorf("%+v", m)
		}
	}
}

func TestSettingsThatCannotBeAreFound(t *testing.T) {
	for want, s := range map[string]Settings{
		`imagePullPolicy: there is no "Sometimes"`:                  {ImagePullPolicy: "Sometimes"},
		`logLevel: there is no "loud"`:                              {LogLevel: "loud"},
		`image: "a b" cannot be the name of an image`:               {Image: "a b"},
		`startTimeout: -1s is in the past`:                          {StartTimeout: metav1.Duration{Duration: -time.Second}},
		`namespace: "Dev" cannot be a name in Kubernetes`:           {Namespace: "Dev"},
		`imagePullSecrets[0]: "x_y" cannot be a name in Kubernetes`: {ImagePullSecrets: []string{"x_y"}},
		`labels: team=a b cannot be a label`:                        {Labels: map[string]string{"team": "a b"}},
		`labels: magpie-k8s.github.io/target-uid is Magpie's own`:   {Labels: map[string]string{labelTarget: "x"}},
	} {
		if err := s.Check(); err == nil || err.Error() != want {
			t.Errorf("%v; want %s", err, want)
		}
	}
	if err := (Settings{}).Check(); err != nil {
		t.Errorf("none: %v", err)
	}
}

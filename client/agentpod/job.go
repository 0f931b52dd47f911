package agentpod

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// The capabilities of an agent beside a pod, which keeps none but BPF once it stands there; see docs/SECURITY.md. An ephemeral one is in the
// target's network already, and need not enter it.
var (
	rights          = []corev1.Capability{"SYS_ADMIN", "SYS_PTRACE", "BPF"}
	ephemeralRights = []corev1.Capability{"NET_ADMIN", "SYS_PTRACE", "BPF"}
)

// flushRight is what an agent needs and keeps, too, that shall close connections older than a claim. One in the target's network has it at first anyway.
const flushRight corev1.Capability = "NET_ADMIN"

// nobody is who an agent without a target runs as.
const nobody = 65532

// newJob is a Job because its end is in the cluster's hands: when the agent has left, the Job goes by its TTL, even if no client
// is there any more, and with the target's pod it goes by its owner.
func newJob(name string, p plan) *batchv1.Job {
	labels, annotations := labelsOf(p.pod, p.settings, p.version), annotationsOf(p.pod, p.settings)
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.namespace(), Labels: labels, Annotations: annotations},
		Spec: batchv1.JobSpec{
			Parallelism:             new(int32(1)),
			BackoffLimit:            new(int32(0)),
			TTLSecondsAfterFinished: new(int32(0)),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
				Spec:       podSpec(p),
			},
		},
	}
	if p.pod.UID != "" && p.pod.Namespace == job.Namespace { // an owner in another namespace is none
		job.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: p.pod.Name, UID: types.UID(p.pod.UID)}}
	}
	return job
}

func podSpec(p plan) corev1.PodSpec {
	s := p.settings
	spec := corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever,
		TerminationGracePeriodSeconds: new(int64((p.linger + leaveTime) / time.Second)),
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
		PriorityClassName:             s.PriorityClassName,
		ServiceAccountName:            s.ServiceAccountName,
		Tolerations:                   s.Tolerations,
		Containers:                    []corev1.Container{container(p)},
	}
	for _, name := range s.ImagePullSecrets {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	if p.pod.UID == "" {
		return spec
	}
	spec.HostPID = true // the target's processes are found through /proc
	spec.Affinity = on(p.pod.Node)
	if s.Tolerations == nil {
		spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} // where the target runs, the agent must
	}
	return spec
}

// on pins to a node through the scheduler. Naming the node in the pod would save some milliseconds, but then a node that is full
// or has gone is told by the kubelet's refusal, or by nobody.
func on(node string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
		}}},
	}}
}

func container(p plan) corev1.Container {
	s := p.settings
	c := corev1.Container{
		Name:                     agentName,
		Image:                    s.image(p.version),
		ImagePullPolicy:          s.ImagePullPolicy,
		Args:                     arguments(p, p.target(), "tcp:127.0.0.1:"+fmt.Sprint(Port)),
		TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		SecurityContext:          confined(),
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")}, // no limit of CPU: traffic would wait for it
		},
	}
	if s.Resources != nil {
		c.Resources = *s.Resources
	}
	if p.pod.UID != "" {
		allow(c.SecurityContext)
		if s.Flush {
			c.SecurityContext.Capabilities.Add = append(slices.Clone(rights), flushRight)
		}
	}
	return c
}

// confined is all that an agent without a target needs.
func confined() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsUser:                new(int64(nobody)),
		RunAsNonRoot:             new(true),
		Privileged:               new(false),
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// allow adds what an agent beside a target needs.
func allow(c *corev1.SecurityContext) {
	c.RunAsUser, c.RunAsNonRoot = new(int64(0)), new(false) // nobody else gets capabilities
	c.Capabilities.Add = rights
	c.AllowPrivilegeEscalation = nil // the API server does not take false together with SYS_ADMIN
	// The runtime's profile of AppArmor forbids to look into another container's /proc; its seccomp filter goes by the capabilities, and stays.
	c.AppArmorProfile = &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
}

func arguments(p plan, target, listen string) []string {
	args := []string{"serve", "--target", target, "--listen", listen, "--linger", p.linger.String()}
	if p.pod.Node != "" {
		args = append(args, "--node", p.pod.Node)
	}
	if p.settings.Flush && p.pod.UID != "" {
		args = append(args, "--flush")
	}
	if p.settings.LogLevel == "debug" {
		args = append(args, "--debug")
	}
	return args
}

// containerTarget is the agent's word for a container; id is the kubelet's: containerd://0123….
func containerTarget(pod cluster.Pod) string {
	_, id, ok := strings.Cut(pod.ContainerID, "://")
	if !ok {
		id = pod.ContainerID
	}
	return "container/" + id
}

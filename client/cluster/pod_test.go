package cluster

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// of makes a pod with containers of these names; "init:" and "stays:" are the two kinds of init containers.
func of(annotation string, names ...string) *corev1.Pod {
	pod := new(corev1.Pod)
	if annotation != "" {
		pod.Annotations = map[string]string{defaultContainer: annotation}
	}
	always := corev1.ContainerRestartPolicyAlways
	for _, name := range names {
		switch {
		case len(name) > 5 && name[:5] == "init:":
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name[5:]})
		case len(name) > 6 && name[:6] == "stays:":
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name[6:], RestartPolicy: &always})
		default:
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name})
		}
	}
	return pod
}

func TestTheContainerIsTheOneThatADeveloperMeans(t *testing.T) {
	for _, c := range []struct {
		what, named string
		pod         *corev1.Pod
		want        string
	}{
		{"the only one", "", of("", "web"), "web"},
		{"the first", "", of("", "web", "logs"), "web"},
		{"behind a mesh's proxy", "", of("", "istio-proxy", "web"), "web"},
		{"behind two", "", of("", "linkerd-proxy", "kuma-sidecar", "web"), "web"},
		{"a proxy that is alone", "", of("", "envoy"), "envoy"},
		{"the annotated", "", of("logs", "web", "logs"), "logs"},
		{"annotated, but not there", "", of("gone", "web", "logs"), "web"},
		{"an annotated proxy", "", of("envoy", "web", "envoy"), "envoy"},
		{"named", "logs", of("web", "web", "logs"), "logs"},
		{"named proxy", "istio-proxy", of("", "istio-proxy", "web"), "istio-proxy"},
		{"named sidecar of Kubernetes' own kind", "mesh", of("", "stays:mesh", "web"), "mesh"},
		{"never an init container", "", of("", "init:setup", "stays:istio-proxy", "web"), "web"},
		{"not by name either", "setup", of("", "init:setup", "web"), ""},
		{"named, but not there", "gone", of("", "web"), ""},
	} {
		if got := newPod(c.pod, c.named).Container; got != c.want {
			t.Errorf("%s: container %q, want %q", c.what, got, c.want)
		}
	}
}

func TestContainersThatCanBeChosenAreNamedForTheHint(t *testing.T) {
	if got, want := containers(of("", "init:setup", "stays:mesh", "web", "logs")), []string{"web", "logs", "mesh"}; !slices.Equal(got, want) {
		t.Errorf("containers = %v, want %v", got, want)
	}
}

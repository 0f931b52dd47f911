package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestAPodPromisesTLSByPortNamesAndProbes(t *testing.T) {
	probe := func(scheme corev1.URIScheme, at intstr.IntOrString) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Scheme: scheme, Port: at}}}
	}
	for name, test := range map[string]struct {
		port  corev1.ContainerPort
		probe *corev1.Probe
		want  bool
	}{
		"https":               {corev1.ContainerPort{Name: "https", ContainerPort: 8000}, nil, true},
		"https and more":      {corev1.ContainerPort{Name: "https-api", ContainerPort: 8000}, nil, true},
		"http":                {corev1.ContainerPort{Name: "http", ContainerPort: 8000}, nil, false},
		"another port":        {corev1.ContainerPort{Name: "https", ContainerPort: 8001}, nil, false},
		"no name":             {corev1.ContainerPort{ContainerPort: 8000}, nil, false},
		"a probe by number":   {corev1.ContainerPort{ContainerPort: 8000}, probe(corev1.URISchemeHTTPS, intstr.FromInt32(8000)), true},
		"a probe by name":     {corev1.ContainerPort{Name: "web", ContainerPort: 8000}, probe(corev1.URISchemeHTTPS, intstr.FromString("web")), true},
		"a plain probe":       {corev1.ContainerPort{ContainerPort: 8000}, probe(corev1.URISchemeHTTP, intstr.FromInt32(8000)), false},
		"a probe of another":  {corev1.ContainerPort{ContainerPort: 8000}, probe(corev1.URISchemeHTTPS, intstr.FromInt32(8001)), false},
		"a probe, not by web": {corev1.ContainerPort{ContainerPort: 8000}, probe(corev1.URISchemeHTTPS, intstr.FromString("")), false},
	} {
		pod := Pod{Pod: &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Ports: []corev1.ContainerPort{test.port}, ReadinessProbe: test.probe,
		}}}}}
		if got := pod.PromisesTLS(8000); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

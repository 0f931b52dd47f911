package cluster

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// PromisesTLS reports whether the pod says that a port of its is served in TLS: by the port's name, or by a probe.
func (p Pod) PromisesTLS(port uint16) bool {
	for _, c := range slices.Concat(p.Pod.Spec.InitContainers, p.Pod.Spec.Containers) {
		name := ""
		for _, declared := range c.Ports {
			if declared.ContainerPort == int32(port) {
				name = declared.Name
			}
		}
		if namesTLS(name) {
			return true
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if asksTLS(probe, port, name) {
				return true
			}
		}
	}
	return false
}

// namesTLS goes by the names that meshes and gateways read too: https, https-api, grpcs, tls.
func namesTLS(name string) bool {
	protocol, _, _ := strings.Cut(strings.ToLower(name), "-")
	return protocol == "https" || protocol == "grpcs" || protocol == "tls"
}

func asksTLS(probe *corev1.Probe, port uint16, name string) bool {
	if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Scheme != corev1.URISchemeHTTPS {
		return false
	}
	at := probe.HTTPGet.Port
	return at.IntValue() == int(port) || name != "" && at.StrVal == name
}

//go:build e2e

package main

import (
	"strings"
	"testing"
)

func TestPodSecurityRefusesAPrivilegedPod(t *testing.T) {
	s := mustHaveShop(t, "pod-security.kubernetes.io/enforce=restricted")
	s.refuses("violates PodSecurity", "run", "big", "--image="+toolsImage, "--privileged", "--", "true")
}

func TestQuotaRefusesAPodTooMany(t *testing.T) {
	s := mustHaveShop(t)
	s.must("create", "quota", "none", "--hard=pods=0")
	s.eventually(func() error { // once the quota's status is known
		_, err := s.run("", "get", "quota", "none", "--output=jsonpath={.status.hard.pods}")
		return err
	})
	s.refuses("exceeded quota", "run", "one", "--image="+toolsImage, "--", "true")
}

func TestServiceAccountMayOnlyWhatItsRoleSays(t *testing.T) {
	s := mustHaveShop(t)
	s.must("create", "serviceaccount", "reader")
	s.must("create", "role", "reader", "--verb=list", "--resource=pods")
	s.must("create", "rolebinding", "reader", "--role=reader", "--serviceaccount="+s.namespace+":reader")
	token := "--token=" + strings.TrimSpace(s.must("create", "token", "reader"))
	// The administrator's certificate would win over the token.
	access := []string{"--kubeconfig=/dev/null", "--server=" + apiServerURL, "--insecure-skip-tls-verify", token, "get"}
	s.eventually(func() error {
		_, err := s.run("", append(access, "pods")...)
		return err
	})
	s.refuses("forbidden", append(access, "secrets")...)
	s.refuses("forbidden", append(access, "nodes")...)
}

// agentLike is a pod with the rights that Magpie's agent asks for.
const agentLike = `
apiVersion: v1
kind: Pod
metadata: {name: agent}
spec:
  nodeName: node1
  hostPID: true
  terminationGracePeriodSeconds: 0
  containers:
  - name: agent
    image: magpie.test/tools:1
    command: [sleep, "2000000"]
    securityContext:
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL], add: [SYS_ADMIN, SYS_PTRACE, NET_ADMIN, BPF, PERFMON]}
`

// The container's ID is in the names of its cgroups, which is how the agent finds its target; busybox's nsenter is how it would go there.
const enterClient = `
for cgroup in $(grep -l "$1" /proc/[0-9]*/cgroup); do
	pid=${cgroup#/proc/} pid=${pid%/cgroup}
	grep "^0::" $cgroup
	exec nsenter --net=/proc/$pid/ns/net ip -4 addr show eth0
done
exit 1`

func TestCapabilitiesAreEnoughToEnterAnotherPod(t *testing.T) {
	s := mustHaveWeb(t)
	s.apply(agentLike)
	s.must("wait", "--for=condition=Ready", "pod/agent", "--timeout=1m")
	id := strings.TrimPrefix(s.field(".status.containerStatuses[0].containerID", "pod/client"), "containerd://")
	output := s.must("exec", "agent", "--", "sh", "-c", enterClient, "sh", id)
	if address := s.field(".status.podIP", "pod/client"); !strings.Contains(output, address+"/") {
		t.Errorf("entered another namespace than the client's with %s: %s", address, output)
	}
	if !strings.Contains(output, "0::/kubepods/") || !strings.Contains(output, id) {
		t.Errorf("the client is not in its own cgroup of version 2: %s", output)
	}
	tree := s.must("exec", "agent", "--", "sh", "-c", "mkdir /tree && mount -t cgroup2 cgroup2 /tree && find /tree -name '"+id+"'")
	if !strings.Contains(tree, "/kubepods/") {
		t.Errorf("the client's cgroup is not in the tree: %s", tree)
	}
}

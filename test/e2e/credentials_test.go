//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// withToken is the cluster's kubeconfig with another user.
func withToken(tb testing.TB, token string) (config string) {
	tb.Helper()
	return withUser(tb, "--token", token)
}

// withUser is the cluster's kubeconfig with another user, as `kubectl config set-credentials` makes one.
func withUser(tb testing.TB, flags ...string) (config string) {
	tb.Helper()
	config = filepath.Join(tb.TempDir(), "kubeconfig")
	content, err := os.ReadFile(kubeconfig)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(config, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	for _, args := range [][]string{append([]string{"set-credentials", "developer"}, flags...), {"set-context", "--current", "--user", "developer"}} {
		if out, err := exec.Command(kubectlBin, append([]string{"--kubeconfig", config, "config"}, args...)...).CombinedOutput(); err != nil {
			tb.Fatalf("kubectl config %v: %v: %s", args, err, out)
		}
	}
	return config
}

func TestCredentialsThatDoNotHoldAreToldSo(t *testing.T) {
	config := withToken(t, "expired")
	for _, target := range []string{"deploy/ems", "pod/ems", "label/app=ems"} {
		_, err := connect(t, "--kubeconfig", config).Pods(t.Context(), mustTarget(t, target))
		mustSay(t, err, "the API server does not accept these credentials", "log in anew")
	}
	_, err := connect(t, "--as", "bob").Pods(t.Context(), mustTarget(t, "deploy/ems"))
	mustSay(t, err, "bob may not get deployments.apps in namespace default", "kubectl auth can-i get deployments.apps -n default")
	ended := make(chan error, 1)
	go func() {
		ended <- connect(t, "--as", "bob").Watch(t.Context(), mustTarget(t, "deploy/ems"), func([]cluster.Pod) {})
	}()
	select {
	case err := <-ended:
		mustSay(t, err, "bob may not ", "kubectl auth can-i")
	case <-time.After(5 * time.Second):
		t.Error("a watch without rights goes on")
	}
}

func TestCredentialPluginsAreRun(t *testing.T) {
	namespace := newNamespace(t)
	mustKubectl(t, "-n", namespace, "create", "serviceaccount", "plugged")
	token := strings.TrimSpace(mustKubectl(t, "-n", namespace, "create", "token", "plugged"))
	plugin := filepath.Join(t.TempDir(), "plugin")
	script := "#!/bin/sh\n" + `echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "%s"}}'`
	if err := os.WriteFile(plugin, fmt.Appendf(nil, script, token), 0o755); err != nil {
		t.Fatal(err)
	}
	with := func(command string) error {
		config := withUser(t, "--exec-command", command, "--exec-api-version", "client.authentication.k8s.io/v1", "--exec-interactive-mode", "Never")
		_, err := connect(t, "--kubeconfig", config, "-n", namespace).Pods(t.Context(), mustTarget(t, "deploy/ems"))
		return err
	}
	mustSay(t, with(plugin), "system:serviceaccount:"+namespace+":plugged may not get deployments.apps", "deploy/rbac.yaml")
	mustSay(t, with("/nonexistent/plugin"), "get credentials: ", "kubectl get pods")
}

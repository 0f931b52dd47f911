//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testrun"
)

// kubectl runs it as the administrator, and returns what it printed on stdout.
func kubectl(args ...string) (string, error) { return kubectlWith("", args...) }

func kubectlWith(stdin string, args ...string) (string, error) {
	cmd := exec.Command(kubectlBin, append([]string{"--kubeconfig", kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, complaint.String())
	}
	return out.String(), nil
}

func mustKubectl(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := kubectl(args...)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// apply makes what the manifest says.
func apply(tb testing.TB, namespace, manifest string) {
	tb.Helper()
	if _, err := kubectlWith(manifest, "-n", namespace, "apply", "-f", "-"); err != nil {
		tb.Fatal(err)
	}
}

// newNamespace makes a namespace that is gone after the test. Labels are those of the namespace, as key=value.
func newNamespace(tb testing.TB, labels ...string) string {
	tb.Helper()
	name := "e2e-" + strings.ToLower(rand.Text()[:8])
	mustKubectl(tb, "create", "namespace", name)
	tb.Cleanup(func() { mustKubectl(tb, "delete", "namespace", name, "--wait=false") })
	if len(labels) > 0 {
		mustKubectl(tb, append([]string{"label", "namespace", name}, labels...)...)
	}
	// Pods need the account, which comes a moment later.
	testrun.Eventually(tb, func() error {
		_, err := kubectl("-n", name, "get", "serviceaccount", "default")
		return err
	})
	return name
}

// rollout waits until a workload, as deploy/NAME, is as it should be.
func rollout(tb testing.TB, namespace, workload string) {
	tb.Helper()
	mustKubectl(tb, "-n", namespace, "rollout", "status", workload, "--timeout=90s")
}

// names lists objects of a kind by label; an empty label lists all.
func names(tb testing.TB, namespace, kind, label string) []string {
	tb.Helper()
	return strings.Fields(mustKubectl(tb, "-n", namespace, "get", kind, "-l", label, "-o", "jsonpath={.items[*].metadata.name}"))
}

// raw asks a pod over the API server's proxy.
func raw(namespace, pod, port, path string, query url.Values) (string, error) {
	return kubectl("get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%s/proxy%s?%s", namespace, pod, port, path, query.Encode()))
}

// within tries until it works, for so long.
func within(tb testing.TB, limit time.Duration, try func() error) time.Duration {
	tb.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		took := time.Since(begin)
		if err == nil {
			return took
		}
		if took > limit {
			tb.Fatalf("not within %v: %v", limit, err)
		}
	}
}

func mustDecode(tb testing.TB, text string, into any) {
	tb.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		tb.Fatalf("%v: %s", err, text)
	}
}

//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// promptly is how long what is wrong may stay unsaid.
const promptly = 5 * time.Second

const brokenManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: broken}
spec:
  selector: {matchLabels: {app: broken}}
  template:
    metadata: {labels: {app: broken}}
    spec: {containers: [{name: broken, image: "magpie.test/none:0", imagePullPolicy: Never}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: empty}
spec:
  replicas: 0
  selector: {matchLabels: {app: empty}}
  template:
    metadata: {labels: {app: empty}}
    spec: {containers: [{name: empty, image: ` + shopImage + `}]}
`

// TestWhatIsWrongIsSaidInSeconds is bad input of each kind: a line of cause and one of hint, and nothing is created.
func TestWhatIsWrongIsSaidInSeconds(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	apply(t, s.namespace, brokenManifest)
	within(t, 30*time.Second, func() error {
		_, err := kubectl("-n", s.namespace, "wait", "pod", "-l", "app=broken", "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImageNeverPull", "--timeout=1s")
		return err
	})
	for _, c := range []struct {
		name  string
		flags string
		cause string
		hint  string
	}{
		{"the nearest name", "--target deploy/shpo", "deploy/shpo does not exist", "deploy/shop"},
		{"the nearest namespace", "--target deploy/shop -n " + s.namespace + "x", "namespace", s.namespace},
		{"a pod that is none", "-p nobody", "pod/nobody does not exist", ""},
		{"a container that is none", "--target deploy/shop -c sohp", "sohp", "shop"},
		{"a context that is none", "--target deploy/shop --context nowhere", "there is no context", "there are"},
		{"no ready replica", "--target deploy/broken", "ErrImageNeverPull", ""},
		{"no replica at all", "--target deploy/empty", "deploy/empty", "scale"},
		{"labels of nobody", "--target label/app=nobody", "app=nobody", ""},
		{"a user without rights", "--target deploy/shop --as nobody", "nobody may not", "rbac"},
		{"an image that does not exist", "--target deploy/shop --agent-image magpie.test/none:1", "magpie.test/none:1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"exec", "-n", s.namespace}, strings.Fields(c.flags)...)
			began := time.Now()
			out, status := dev.run(t, append(args, "--", "true")...)
			took := time.Since(began)
			if status != 125 || !strings.Contains(out, c.cause) || !strings.Contains(out, "hint: ") || took > promptly {
				t.Errorf("status %d after %v:\n%s", status, took, out)
			}
			if _, hint, _ := strings.Cut(out, "hint: "); !strings.Contains(hint, c.hint) {
				t.Errorf("the hint has no %q:\n%s", c.hint, out)
			}
		})
	}
	mustLeaveNothing(t, s.namespace, soon)
}

func TestExpiredCredentialsAreSaidToBe(t *testing.T) {
	dev := newDeveloper(t)
	server := mustKubectl(t, "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
	out, status := dev.run(t, "ls", "--kubeconfig", filepath.Join(dev.folder, "none"), "--server", server, "--insecure-skip-tls-verify", "--token", "expired")
	if status == 0 || !strings.Contains(out, "hint: ") || !strings.Contains(strings.ToLower(out), "credentials") {
		t.Errorf("status %d:\n%s", status, out)
	}
}

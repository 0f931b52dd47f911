//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/client/cluster"
)

func TestTargetsOfEachKindHaveTheirOwnPods(t *testing.T) {
	namespace := openWorkloads(t)
	c := connect(t, "-n", namespace)
	sets := names(t, namespace, "rs", "app=ems")
	for _, want := range []struct {
		target string
		prefix []string // of each pod's name, sorted
	}{
		{"deploy/ems", []string{"ems-", "ems-"}},
		{"deployments.apps/twin", []string{"twin-"}},
		{"rs/" + sets[0], []string{"ems-", "ems-"}},
		{"sts/db", []string{"db-0"}},
		{"ds/log", []string{"log-", "log-"}},
		{"job/once", []string{"once-"}},
		{"cronjob/nightly", []string{"manual-"}},
		{"svc/front", []string{"ems-", "ems-", "twin-"}},
		{"label/app=ems", []string{"ems-", "ems-", "twin-"}},
		{"label/app in (db, log)", []string{"db-0", "log-", "log-"}},
		{"pod/db-0", []string{"db-0"}},
		{"none", nil},
	} {
		pods, err := c.Pods(t.Context(), mustTarget(t, want.target))
		if err != nil {
			t.Errorf("%s: %v", want.target, err)
			continue
		}
		got := slices.Sorted(slices.Values(podNames(pods)))
		if !slices.EqualFunc(got, want.prefix, strings.HasPrefix) {
			t.Errorf("%s: pods %v, want %v", want.target, got, want.prefix)
		}
		for _, p := range pods {
			if !p.Ready || p.UID == "" || p.Node == "" || p.IP == "" || !strings.HasPrefix(p.ContainerID, "containerd://") || p.Namespace != namespace {
				t.Errorf("%s: %+v lacks something", want.target, p)
			}
		}
	}
}

func TestContainersAreChosenAsKubectlChoosesThem(t *testing.T) {
	namespace := openWorkloads(t)
	c := connect(t, "-n", namespace)
	for target, want := range map[string]string{"deploy/ems": "web", "deploy/ems/container/istio-proxy": "istio-proxy"} {
		pods, err := c.Pods(t.Context(), mustTarget(t, target))
		if err != nil || pods[0].Container != want {
			t.Errorf("%s: container %q, %v; want %q", target, pods[0].Container, err, want)
		}
	}
	_, err := c.Pods(t.Context(), mustTarget(t, "deploy/ems/container/wbe"))
	mustSay(t, err, `container "wbe" of deploy/ems does not exist`, "its containers are: istio-proxy, web")
}

func TestATargetThatIsNotThereNamesWhatWasMeant(t *testing.T) {
	namespace := openWorkloads(t)
	far := namespace[:len(namespace)-1] + "0" // no letter or digit of a namespace's random part
	for _, c := range []struct{ in, target, cause, hint string }{
		{namespace, "deploy/emz", "deploy/emz does not exist in namespace " + namespace, "did you mean deploy/ems?"},
		{namespace, "deploy/invoices", "deploy/invoices does not exist", "there are: ems, twin"},
		{namespace, "cronjob/nightli", "cronjob/nightli does not exist", "did you mean cronjob/nightly?"},
		{namespace, "sts/ems", "sts/ems does not exist", "did you mean deploy/ems?"},
		{namespace, "pod/db-7", "pod/db-7 does not exist", "did you mean pod/db-0?"},
		{"default", "ds/log", "ds/log does not exist in namespace default", "there is one with -n "},
		{far, "deploy/ems", `namespace "` + far + `" does not exist`, "did you mean -n " + namespace},
		{far, "label/app=ems", `namespace "` + far + `" does not exist`, "did you mean -n " + namespace},
		{namespace, "label/app=nobody", "label/app=nobody has no ready pod: no pod in namespace", "--show-labels"},
		{namespace, "svc/outside", "svc/outside selects no pods (type ExternalName)", "deploy/NAME"},
		{namespace, "rollout/ems", "kind rollout (rollouts.argoproj.io) does not exist", "Argo Rollouts"},
	} {
		begin := time.Now()
		_, err := connect(t, "-n", c.in).Pods(t.Context(), mustTarget(t, c.target))
		mustSay(t, err, c.cause, c.hint)
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("%s: took %v", c.target, took)
		}
	}
}

func TestATargetWithoutAReadyPodSaysWhatItWaitsFor(t *testing.T) {
	namespace := newNamespace(t)
	c := connect(t, "-n", namespace)
	for _, w := range []struct{ name, pod, replicas, cause, hint string }{
		{"asleep", `containers: [{name: web, image: ` + toolsImage + `}]`, "0", "deploy/asleep has no ready pod: it has no pods", "is it scaled to 0?"},
		{"image", `containers: [{name: web, image: "magpie.test/nothing:1", imagePullPolicy: Never}]`, "1", "container web waits: ErrImageNeverPull", "describe pod image-"},
		{"crash", `containers: [{name: web, image: ` + toolsImage + `, command: [sh, -c, "exit 3"]}]`, "1", "crashes again and again (CrashLoopBackOff): it ended with status 3", "logs crash-"},
		{"nowhere", `{nodeSelector: {kubernetes.io/hostname: node9}, containers: [{name: web, image: ` + toolsImage + `}]}`, "1", "it has no node: 0/2 nodes are available", "describe pod nowhere-"},
		{"unwell", `containers: [{name: web, image: ` + toolsImage + `, command: [sleep, "3600"], readinessProbe: {exec: {command: ["false"]}}}]`, "1", "readiness probe of container web fails", "describe"},
		{"setup", `{initContainers: [{name: first, image: ` + toolsImage + `, command: [sleep, "3600"]}], containers: [{name: web, image: ` + toolsImage + `}]}`, "1", "init container first still runs", "logs setup-"},
		{"secret", `containers: [{name: web, image: ` + toolsImage + `, envFrom: [{secretRef: {name: none}}]}]`, "1", `container web waits: CreateContainerConfigError: secret "none" not found`, "describe"},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			pod := w.pod
			if !strings.HasPrefix(pod, "{") {
				pod = "{" + pod + "}"
			}
			apply(t, namespace, fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s}, spec: {replicas: %s, selector: {matchLabels: {app: %[1]s}},
				template: {metadata: {labels: {app: %[1]s}}, spec: %[3]s}}}`, w.name, w.replicas, pod))
			var err error
			within(t, time.Minute, func() error {
				_, err = c.Pods(t.Context(), mustTarget(t, "deploy/"+w.name))
				if err == nil || !strings.Contains(err.Error(), w.cause) {
					return fmt.Errorf("says: %w", err)
				}
				return nil
			})
			var notReady *cluster.NotReady
			if !errors.As(err, &notReady) {
				t.Errorf("%T is no *NotReady", err)
			}
			mustSay(t, err, w.cause, w.hint)
		})
	}
}

func TestWhatCanBeATargetIsListed(t *testing.T) {
	namespace := openWorkloads(t)
	for _, flags := range [][]string{{"-n", namespace}, {"-n", "default"}} {
		all := flags[1] != namespace
		found, err := connect(t, flags...).List(t.Context(), "", all)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range found {
			if c.Namespace == namespace && c.Kind != cluster.KindPod {
				got = append(got, fmt.Sprintf("%s %d/%d %s", c.Target, c.Ready, c.Desired, c.Owner))
			}
		}
		want := []string{"deploy/ems 2/2 ", "deploy/twin 1/1 ", "sts/db 1/1 ", "ds/log 2/2 ", "job/manual 1/1 cronjob/nightly", "job/once 1/1 ", "cronjob/nightly 1/1 ", "svc/front 3/3 "}
		if !slices.Equal(got, want) {
			t.Errorf("%v:\ngot  %q\nwant %q", flags, got, want)
		}
		for _, c := range found {
			if c.Namespace == namespace && c.Kind == cluster.KindPod && strings.HasPrefix(c.Name, "ems-") &&
				(c.Owner != "deploy/ems" || !slices.Equal(c.Containers, []string{"istio-proxy", "web"}) || len(c.Ports) != 1 || c.Ports[0].ContainerPort != 8080) {
				t.Errorf("%+v", c)
			}
		}
	}
	_, err := connect(t, "-n", "e2e-nonexistent").List(t.Context(), "", false)
	mustSay(t, err, `namespace "e2e-nonexistent" does not exist`, "")
}

func TestEventsOfSessionsAreOnThePod(t *testing.T) {
	namespace := openWorkloads(t)
	c := connect(t, "-n", namespace)
	pods, err := c.Pods(t.Context(), mustTarget(t, "pod/db-0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Record(t.Context(), pods[0], cluster.ReasonStarted, "dev steals port 80: header x-user: me"); err != nil {
		t.Fatal(err)
	}
	if out := mustKubectl(t, "-n", namespace, "describe", "pod", "db-0"); !strings.Contains(out, cluster.ReasonStarted) || !strings.Contains(out, "dev steals port 80") {
		t.Errorf("no event in:\n%s", out)
	}
}

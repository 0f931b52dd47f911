//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/magpie-k8s/magpie/client/agentpod"
	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/wire"
)

const testVersion = "v1.2.0"

// enter enters the first pod of a target.
func enter(tb testing.TB, c *cluster.Cluster, target string, s agentpod.Settings) (*agentpod.Agent, error) {
	tb.Helper()
	pods, err := c.Pods(tb.Context(), mustTarget(tb, target))
	if err != nil {
		tb.Fatal(err)
	}
	return enterPod(tb, c, append(pods, cluster.Pod{})[0], s)
}

func enterPod(tb testing.TB, c *cluster.Cluster, pod cluster.Pod, s agentpod.Settings) (*agentpod.Agent, error) {
	tb.Helper()
	if s.Image == "" {
		s.Image = agentImage
	}
	began := time.Now()
	a, err := agentpod.Enter(tb.Context(), c, pod, s, testVersion, time.Second, func(what, detail string) { tb.Logf("%s: %s", what, detail) })
	tb.Logf("enter: %v", time.Since(began).Round(time.Millisecond))
	if err == nil {
		tb.Cleanup(func() { a.Close() })
	}
	return a, err
}

func mustEnter(tb testing.TB, c *cluster.Cluster, target string, s agentpod.Settings) *agentpod.Agent {
	tb.Helper()
	a, err := enter(tb, c, target, s)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// mustHello starts a session on a carrier of its own, and leave ends both.
func mustHello(tb testing.TB, a *agentpod.Agent) (calls *wire.Caller, leave func()) {
	tb.Helper()
	pipe, err := a.Dial(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	carrier := wire.Client(pipe)
	tb.Cleanup(func() { carrier.Close() })
	calls, err = carrier.Calls(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := calls.Hello(tb.Context(), &wire.HelloRequest{Version: testVersion, Target: a.Target()}); err != nil {
		tb.Fatal(err)
	}
	return calls, func() {
		tb.Helper()
		resp, err := calls.Leave(tb.Context(), &wire.LeaveRequest{})
		if err != nil {
			tb.Error(err)
		}
		carrier.Close()
		if resp.GetLast() {
			if err := a.Clear(tb.Context()); err != nil {
				tb.Error(err)
			}
		}
	}
}

func TestAnAgentIsStartedJoinedAndGone(t *testing.T) {
	s := openShop(t, 1)
	c := connect(t, "-n", s.namespace)
	first := mustEnter(t, c, "deploy/shop", agentpod.Settings{})
	_, leaveOurs := mustHello(t, first)
	second := mustEnter(t, c, "deploy/shop", agentpod.Settings{})
	_, leaveTheirs := mustHello(t, second)
	if !first.Started() || second.Started() || first.Name() != second.Name() {
		t.Errorf("%v, %v: want one agent, started once", first, second)
	}
	found, err := agentpod.Running(t.Context(), c, s.namespace)
	if err != nil || len(found) != 1 || found[0].Name() != first.Name() {
		t.Fatalf("running: %v, %v", found, err)
	}
	if namespace, name := found[0].TargetPod(); namespace != s.namespace || name != s.pods(t)[0] {
		t.Errorf("beside %s/%s", namespace, name)
	}
	leaveOurs()
	leaveTheirs()
	mustLeaveNothing(t, s.namespace, leftTime)
}

func TestThoseWhoStartAnAgentAtOnceMeet(t *testing.T) {
	s := openShop(t, 1)
	c := connect(t, "-n", s.namespace)
	var names [4]string
	var all sync.WaitGroup
	for i := range names {
		all.Go(func() {
			a, err := enter(t, c, "deploy/shop", agentpod.Settings{})
			if err != nil {
				t.Error(err)
				return
			}
			names[i] = a.Name()
		})
	}
	all.Wait()
	for _, name := range names {
		if name != names[0] {
			t.Errorf("agents %q", names)
		}
	}
}

func TestAnAgentThatIsLeavingIsFollowedByTheNext(t *testing.T) {
	s := openShop(t, 1)
	c := connect(t, "-n", s.namespace)
	last := ""
	for range 4 {
		a := mustEnter(t, c, "deploy/shop", agentpod.Settings{})
		_, leave := mustHello(t, a)
		leave()
		if a.Name() == last {
			t.Logf("%s was still there", last)
		}
		last = a.Name()
	}
	mustLeaveNothing(t, s.namespace, leftTime)
}

func TestAnAgentThatIsGoneIsToldByDial(t *testing.T) {
	s := openShop(t, 1)
	c := connect(t, "-n", s.namespace)
	a := mustEnter(t, c, "deploy/shop", agentpod.Settings{})
	mustHello(t, a)
	mustKubectl(t, "-n", s.namespace, "delete", "pod", a.Name(), "--grace-period=1")
	if _, err := a.Dial(t.Context()); !errors.Is(err, agentpod.ErrGone) {
		t.Errorf("dial: %v", err)
	}
}

func TestAnEphemeralAgentServesAll(t *testing.T) {
	s := openShop(t, 1)
	c := connect(t, "-n", s.namespace)
	a := mustEnter(t, c, "deploy/shop", agentpod.Settings{Ephemeral: true})
	calls, leave := mustHello(t, a)
	environment, err := calls.Environment(t.Context(), &wire.EnvironmentRequest{})
	if err != nil || !strings.Contains(fmt.Sprint(environment), "GREETING") {
		t.Errorf("environment %v, %v", environment, err)
	}
	other := mustEnter(t, c, "deploy/shop", agentpod.Settings{}) // one agent per pod, whoever asks how
	if other.String() != a.String() {
		t.Errorf("%v beside %v", other, a)
	}
	found, err := agentpod.Running(t.Context(), c, s.namespace)
	if err != nil || len(found) != 1 || found[0].String() != a.String() {
		t.Errorf("running: %v, %v", found, err)
	}
	other.Close()
	leave()
	within(t, 5*time.Second, func() error {
		if found, err := agentpod.Running(t.Context(), c, s.namespace); err != nil || len(found) > 0 {
			return fmt.Errorf("running: %v, %w", found, err)
		}
		return nil
	})
	if next := mustEnter(t, c, "deploy/shop", agentpod.Settings{Ephemeral: true}); next.String() == a.String() {
		t.Errorf("%v again", next)
	}
}

func TestAnAgentWithoutATargetNeedsNoRights(t *testing.T) {
	namespace := newNamespace(t, "pod-security.kubernetes.io/enforce=restricted")
	a := mustEnter(t, connect(t, "-n", namespace), "none", agentpod.Settings{})
	_, leave := mustHello(t, a)
	leave()
	mustLeaveNothing(t, namespace, leftTime)
}

func TestWhatKeepsAnAgentFromStartingIsSaidInSeconds(t *testing.T) {
	shop := openShop(t, 1)
	huge := &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("900")}}
	for name, w := range map[string]struct {
		namespace   func(tb testing.TB) string // of the agent, unless it is the target's
		settings    agentpod.Settings
		as          string
		pod         func(*cluster.Pod)
		cause, hint string
	}{
		"pod security": {
			namespace: func(tb testing.TB) string { return newNamespace(tb, "pod-security.kubernetes.io/enforce=restricted") },
			cause:     "violates PodSecurity", hint: "agent.namespace",
		},
		"quota": {
			namespace: func(tb testing.TB) string { return withQuota(tb, "pods=0") },
			cause:     "exceeded quota", hint: "kubectl describe quota",
		},
		"quota of Jobs": {
			namespace: func(tb testing.TB) string { return withQuota(tb, "count/jobs.batch=0") },
			cause:     "exceeded quota", hint: "kubectl describe quota",
		},
		"namespace": {
			settings: agentpod.Settings{Namespace: "nowhere"}, cause: "there is no namespace nowhere", hint: "agent.namespace",
		},
		"image": {
			settings: agentpod.Settings{Image: "magpie.test/nothing:1"}, cause: "pull agent's image magpie.test/nothing:1", hint: "--agent-image",
		},
		"image name": {
			settings: agentpod.Settings{Image: "Magpie:UP:1"}, cause: "pull agent's image", hint: "--agent-image names another, as",
		},
		"another program": {
			settings: agentpod.Settings{Image: shopImage}, cause: "start agent: it ended", hint: "is " + shopImage + " an image of magpie-agent",
		},
		"priority class": {
			settings: agentpod.Settings{PriorityClassName: "urgent"}, cause: "urgent", hint: "agent.priorityClassName",
		},
		"service account": {
			settings: agentpod.Settings{ServiceAccountName: "nobody"}, cause: "nobody", hint: "agent.serviceAccountName",
		},
		"node full": {
			settings: agentpod.Settings{Resources: huge}, cause: "Insufficient cpu", hint: "agent.resources",
		},
		"node gone": {
			pod: func(p *cluster.Pod) { p.Node = "node9" }, cause: "no room on the target's node", hint: "is the target's node still there",
		},
		"rights": {
			as: "somebody", cause: "somebody may not list pods", hint: "deploy/rbac.yaml",
		},
		"container gone": {
			pod:   func(p *cluster.Pod) { p.ContainerID = "containerd://" + strings.Repeat("ab", 32) },
			cause: "start agent: ", hint: "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, "-n", shop.namespace)
			pods, err := c.Pods(t.Context(), mustTarget(t, "deploy/shop"))
			if err != nil {
				t.Fatal(err)
			}
			pod := pods[0]
			if w.pod != nil {
				w.pod(&pod)
			}
			if w.namespace != nil {
				w.settings.Namespace = w.namespace(t)
			}
			if w.as != "" {
				c = connect(t, "-n", shop.namespace, "--as", w.as)
			}
			began := time.Now()
			_, err = enterPod(t, c, pod, w.settings)
			mustSay(t, err, w.cause, w.hint)
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("said after %v", took)
			}
			for _, namespace := range []string{shop.namespace, w.settings.Namespace} {
				if namespace != "" && namespace != "nowhere" {
					mustLeaveNothing(t, namespace, leftTime)
				}
			}
		})
	}
}

// withQuota makes a namespace in which nothing of a kind can be.
func withQuota(tb testing.TB, hard string) string {
	namespace := newNamespace(tb)
	mustKubectl(tb, "-n", namespace, "create", "quota", "none", "--hard="+hard)
	within(tb, 10*time.Second, func() error {
		if used := mustKubectl(tb, "-n", namespace, "get", "quota", "none", "-o", "jsonpath={.status.hard}"); used == "" {
			return errors.New("the quota is not in force yet")
		}
		return nil
	})
	return namespace
}

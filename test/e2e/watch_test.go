//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// sights are what a watch tells.
type sights struct {
	seen  chan []cluster.Pod
	ended chan error
	now   []cluster.Pod
}

func watchTarget(tb testing.TB, c *cluster.Cluster, target string) *sights {
	tb.Helper()
	s := &sights{seen: make(chan []cluster.Pod, 1000), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ended <- c.Watch(ctx, mustTarget(tb, target), func(pods []cluster.Pod) { s.seen <- pods })
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
	})
	return s
}

// until waits for what suits.
func (s *sights) until(tb testing.TB, what string, suits func([]cluster.Pod) bool) {
	tb.Helper()
	for limit := time.After(time.Minute); ; {
		select {
		case s.now = <-s.seen:
			if suits(s.now) {
				return
			}
		case err := <-s.ended:
			tb.Fatalf("%s: the watch ended: %v", what, err)
		case <-limit:
			tb.Fatalf("%s: not within a minute; the last pods were %v", what, podNames(s.now))
		}
	}
}

func many(n int) func([]cluster.Pod) bool {
	return func(pods []cluster.Pod) bool {
		return len(pods) == n && !slices.ContainsFunc(pods, func(p cluster.Pod) bool { return !p.Ready })
	}
}

// mustBeInTime compares with when the newest pod became ready, by the API server's clock, which has whole seconds.
func mustBeInTime(tb testing.TB, pods []cluster.Pod) {
	tb.Helper()
	var last time.Time
	for _, p := range pods {
		for _, condition := range p.Pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.LastTransitionTime.After(last) {
				last = condition.LastTransitionTime.Time
			}
		}
	}
	took := time.Since(last)
	tb.Logf("seen %v after the second in which the pod became ready", took.Round(time.Millisecond))
	if took > 2*time.Second {
		tb.Errorf("seen %v after the pod was ready", took)
	}
}

func TestPodsAreSeenAsTheyComeAndGo(t *testing.T) {
	namespace := openWorkloads(t)
	s := watchTarget(t, connect(t, "-n", namespace), "deploy/ems")
	s.until(t, "at start", many(2))
	scale := func(n string) { mustKubectl(t, "-n", namespace, "scale", "deploy/ems", "--replicas", n) }
	for _, n := range []int{3, 1, 2} {
		scale(fmt.Sprint(n))
		s.until(t, fmt.Sprintf("scaled to %d", n), many(n))
		if n > 1 {
			mustBeInTime(t, s.now)
		}
	}
	before := s.now
	mustKubectl(t, "-n", namespace, "rollout", "restart", "deploy/ems")
	s.until(t, "restarted", func(pods []cluster.Pod) bool {
		return many(2)(pods) && !slices.ContainsFunc(pods, func(p cluster.Pod) bool { return slices.Contains(podNames(before), p.Name) })
	})
	mustBeInTime(t, s.now)
}

func TestAContainerThatStartsAnewStays(t *testing.T) {
	namespace := newNamespace(t)
	apply(t, namespace, `{apiVersion: v1, kind: Pod, metadata: {name: frail}, spec: {terminationGracePeriodSeconds: 0,
		containers: [{name: web, image: `+toolsImage+`, command: [sh, -c, "until [ -e /tmp/end ]; do sleep 0.1; done"]}]}}`)
	s := watchTarget(t, connect(t, "-n", namespace), "pod/frail")
	s.until(t, "at start", many(1))
	id := s.now[0].ContainerID
	mustKubectl(t, "-n", namespace, "exec", "frail", "--", "touch", "/tmp/end")
	s.until(t, "ended", func(pods []cluster.Pod) bool { return len(pods) == 1 && !pods[0].Ready })
	s.until(t, "started anew", func(pods []cluster.Pod) bool { return many(1)(pods) && pods[0].ContainerID != id })
}

func TestAWatchEndsOnlyWhenItsTargetIsGoneForGood(t *testing.T) {
	namespace := openWorkloads(t)
	c := connect(t, "-n", namespace)
	pod, deploy, job := watchTarget(t, c, "pod/db-0"), watchTarget(t, c, "deploy/twin"), watchTarget(t, c, "job/once")
	for _, s := range []*sights{pod, deploy, job} {
		s.until(t, "at start", many(1))
	}
	first := pod.now[0].UID
	mustKubectl(t, "-n", namespace, "delete", "pod", "db-0", "--force", "--grace-period=0")
	pod.until(t, "made anew by its StatefulSet", func(pods []cluster.Pod) bool { return many(1)(pods) && pods[0].UID != first })
	mustKubectl(t, "-n", namespace, "delete", "sts", "db", "--wait=false")
	mustKubectl(t, "-n", namespace, "delete", "deploy", "twin", "--wait=false")
	mustKubectl(t, "-n", namespace, "delete", "job", "once", "--wait=false")
	for what, s := range map[string]*sights{"pod/db-0": pod, "deploy/twin": deploy, "job/once": job} {
		s.until(t, what, many(0))
		select {
		case err := <-s.ended:
			mustSay(t, err, what+" does not exist in namespace "+namespace, "it was deleted")
			s.ended <- err
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the watch goes on", what)
		}
	}
}

func TestAServiceThatTurnsToOtherPodsIsFollowed(t *testing.T) {
	namespace := openWorkloads(t)
	s := watchTarget(t, connect(t, "-n", namespace), "svc/front")
	s.until(t, "at start", many(3))
	mustKubectl(t, "-n", namespace, "patch", "svc", "front", "-p", `{"spec": {"selector": {"app": "db"}}}`)
	s.until(t, "turned", func(pods []cluster.Pod) bool { return many(1)(pods) && pods[0].Name == "db-0" })
}

// TestALostAPIServerEndsNoWatch cuts the way to it, not the API server itself: others need that.
func TestALostAPIServerEndsNoWatch(t *testing.T) {
	namespace := openWorkloads(t)
	way := newRelay(t, strings.TrimPrefix(connect(t).Config().Host, "https://"))
	c := connect(t, "-n", namespace, "--server", "https://"+way.Addr(), "--tls-server-name", "kubernetes.default.svc")
	s := watchTarget(t, c, "deploy/ems")
	s.until(t, "at start", many(2))
	way.Cut()
	_, err := c.Pods(t.Context(), mustTarget(t, "deploy/ems"))
	mustSay(t, err, "refuses connections", "is the cluster up")
	mustKubectl(t, "-n", namespace, "scale", "deploy/ems", "--replicas", "3")
	rollout(t, namespace, "deploy/ems")
	time.Sleep(5 * time.Second)
	select {
	case pods := <-s.seen:
		t.Errorf("told of %v over no network", podNames(pods))
	case err := <-s.ended:
		t.Fatalf("the watch ended: %v", err)
	default:
	}
	way.Mend(t)
	mended := time.Now()
	s.until(t, "mended", many(3))
	if took := time.Since(mended); took > 4*time.Second {
		t.Errorf("seen %v after the way was mended", took)
	} else {
		t.Logf("seen %v after the way was mended", took)
	}
}

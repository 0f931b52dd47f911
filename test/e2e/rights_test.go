//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// withRoles makes an account that has these roles of deploy/rbac.yaml in the namespace and no other right, and returns its kubeconfig.
func withRoles(tb testing.TB, namespace string, roles ...string) (config string) {
	tb.Helper()
	mustKubectl(tb, "-n", namespace, "apply", "-f", "../../deploy/rbac.yaml")
	account := strings.Join(append([]string{"account"}, roles...), "-")
	mustKubectl(tb, "-n", namespace, "create", "serviceaccount", account)
	for _, role := range roles {
		mustKubectl(tb, "-n", namespace, "create", "rolebinding", account+"-"+role, "--role", role, "--serviceaccount", namespace+":"+account)
	}
	return withToken(tb, strings.TrimSpace(mustKubectl(tb, "-n", namespace, "create", "token", account)))
}

// TestEachRoleIsEnoughForItsPart goes through all that client/cluster does, as somebody who may do nothing else.
func TestEachRoleIsEnoughForItsPart(t *testing.T) {
	namespace := openWorkloads(t)
	for _, role := range []string{cluster.RoleDeveloper, cluster.RoleEphemeral, cluster.RoleTargets} {
		c := connect(t, "--kubeconfig", withRoles(t, namespace, role), "-n", namespace)
		for _, target := range []string{"deploy/ems", "sts/db", "ds/log", "job/once", "cronjob/nightly", "svc/front", "label/app=ems", "pod/db-0"} {
			pods, err := c.Pods(t.Context(), mustTarget(t, target))
			if err != nil {
				t.Errorf("%s: %s: %v", role, target, err)
				continue
			}
			watchTarget(t, c, target).until(t, role+": "+target, many(len(pods)))
			if target != "pod/db-0" {
				continue
			}
			if err := c.Record(t.Context(), pods[0], cluster.ReasonEnded, "a session of "+role); err != nil {
				t.Errorf("%s: %v", role, err)
			}
		}
		if found, err := c.List(t.Context(), "", false); err != nil || len(found) == 0 {
			t.Errorf("%s: list: %v, %v", role, found, err)
		}
	}
}

func TestRightsAreAskedFor(t *testing.T) {
	namespace := newNamespace(t)
	for role, needed := range map[string][]cluster.Right{
		cluster.RoleDeveloper: cluster.Needed(namespace, "", false),
		cluster.RoleEphemeral: cluster.Needed(namespace, "", true),
		cluster.RoleAgents:    cluster.Rights(cluster.RoleAgents, namespace),
	} {
		allowed, err := connect(t, "--kubeconfig", withRoles(t, namespace, role)).Allowed(t.Context(), needed)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range needed {
			if want := r.Namespace != ""; allowed[i] != want {
				t.Errorf("%s: %s in %q: allowed is %v", role, r, r.Namespace, allowed[i])
			}
		}
	}
	none := connect(t, "--kubeconfig", withRoles(t, namespace))
	began := time.Now()
	needed := cluster.Needed(namespace, "", false)
	allowed, err := none.Allowed(t.Context(), needed)
	if err != nil {
		t.Fatal(err)
	}
	for i, ok := range allowed {
		if ok {
			t.Errorf("somebody without a role may %s", needed[i])
		}
	}
	t.Logf("%d rights asked for in %v", len(needed), time.Since(began).Round(time.Millisecond))
	_, err = none.Pods(t.Context(), cluster.Target{Kind: cluster.KindPod, Name: "x"})
	mustSay(t, err, "may not list pods in namespace default", "deploy/rbac.yaml")
}

// TestSessionsNeedNoMoreThanTheirRole opens one of each way as somebody who may do nothing else.
func TestSessionsNeedNoMoreThanTheirRole(t *testing.T) {
	for role, flags := range map[string][]string{cluster.RoleDeveloper: nil, cluster.RoleEphemeral: {"--ephemeral"}} {
		t.Run(role, func(t *testing.T) {
			s, dev := openShop(t, 1), newDeveloper(t)
			dev.use(t, withRoles(t, s.namespace, role))
			m := dev.steal(t, s, "me", flags...)
			if err := s.everywhere(t, "me", 1, "x-user: me"); err != nil {
				t.Error(err)
			}
			m.Stop(t)
			if strings.Contains(m.Output(), " may not ") {
				t.Errorf("a right is missing:\n%s", m.Output())
			}
		})
	}
	t.Run("agents elsewhere", func(t *testing.T) {
		s, elsewhere, dev := openShop(t, 1), newNamespace(t), newDeveloper(t)
		dev.use(t, withRoles(t, s.namespace, cluster.RoleTargets))
		mustKubectl(t, "-n", elsewhere, "apply", "-f", "../../deploy/rbac.yaml")
		mustKubectl(t, "-n", elsewhere, "create", "rolebinding", "agents", "--role", cluster.RoleAgents, "--serviceaccount", s.namespace+":account-"+cluster.RoleTargets)
		m := dev.steal(t, s, "me", "--agent-namespace", elsewhere)
		if err := s.everywhere(t, "me", 1, "x-user: me"); err != nil {
			t.Error(err)
		}
		m.Stop(t)
		mustLeaveNothing(t, elsewhere, soon)
	})
}

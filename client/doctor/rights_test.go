package doctor

import (
	"testing"

	"github.com/magpie-k8s/magpie/client/cluster"
)

func TestMissingRightsAreToldByResource(t *testing.T) {
	missing := []cluster.Right{
		{Verb: "list", Resource: "pods", Namespace: "dev", For: "finds pods"},
		{Verb: "watch", Resource: "pods", Namespace: "dev", For: "finds pods"},
		{Verb: "create", Group: "batch", Resource: "jobs", Namespace: "dev", For: "starts agents"},
		{Verb: "create", Resource: "events", Namespace: "dev", For: cluster.Optional + "tells the others"},
		{Verb: "list", Group: "apps", Resource: "daemonsets", For: cluster.Optional + "knows the plugin"},
	}
	want := []Finding{
		{"rights", Fail, "missing: list, watch pods in namespace dev (finds pods)", "whoever runs the cluster grants what is in deploy/rbac.yaml, which says how"},
		{"rights", Fail, "missing: create jobs.batch in namespace dev (starts agents)", "whoever runs the cluster grants what is in deploy/rbac.yaml, which says how"},
		{"rights", Warn, "missing: create events in namespace dev (tells the others)", "sessions work without it"},
		{"rights", Warn, "missing: list daemonsets.apps in the whole cluster (knows the plugin)", "sessions work without it"},
	}
	groups := alike(missing)
	if len(groups) != len(want) {
		t.Fatalf("%d groups, want %d: %v", len(groups), len(want), groups)
	}
	for i, group := range groups {
		if got := lacking(group); got != want[i] {
			t.Errorf("got  %+v\nwant %+v", got, want[i])
		}
	}
}

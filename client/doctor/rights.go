package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// manifest is where the rights are granted that exec needs.
const manifest = "deploy/rbac.yaml"

// rights asks for each right that sessions need where agents are started in this way.
func (v *visit) rights(ctx context.Context) {
	needed := cluster.Needed(v.Cluster.Namespace(), v.agentNamespace(), v.Agent.Ephemeral)
	allowed, err := v.Cluster.Allowed(ctx, needed)
	if err != nil {
		v.fail("rights", err)
		return
	}
	var missing []cluster.Right
	for i, r := range needed {
		if !allowed[i] {
			missing = append(missing, r)
		}
	}
	for _, group := range alike(missing) {
		v.tell(lacking(group))
	}
	if len(missing) == 0 {
		v.ok("rights", fmt.Sprintf("all %d that sessions need, %s", len(needed), v.way()))
	}
}

// way says how agents are started.
func (v *visit) way() string {
	if v.Agent.Ephemeral {
		return "with agents as ephemeral containers"
	}
	return "with agents as Jobs in namespace " + v.agentNamespace()
}

// alike joins rights that differ in their verbs alone: one line tells of all.
func alike(rights []cluster.Right) (groups [][]cluster.Right) {
	for _, r := range rights {
		if n := len(groups); n > 0 {
			same := groups[n-1][0]
			same.Verb = r.Verb
			if same == r {
				groups[n-1] = append(groups[n-1], r)
				continue
			}
		}
		groups = append(groups, []cluster.Right{r})
	}
	return groups
}

func lacking(group []cluster.Right) Finding {
	var verbs []string
	for _, r := range group {
		verbs = append(verbs, r.Verb)
	}
	right := group[0]
	right.Verb = strings.Join(verbs, ", ")
	f := Finding{Check: "rights", Verdict: Fail, Hint: "whoever runs the cluster grants what is in " + manifest + ", which says how"}
	if why, optional := strings.CutPrefix(right.For, cluster.Optional); optional {
		f.Verdict, f.Hint, right.For = Warn, "sessions work without it", why
	}
	where := "in namespace " + right.Namespace
	if right.Namespace == "" {
		where = "in the whole cluster"
	}
	f.Text = fmt.Sprintf("missing: %s %s (%s)", right, where, right.For)
	return f
}

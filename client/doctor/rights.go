package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// manifest is where the rights are granted that exec needs.
const manifest = "deploy/rbac.yaml"

// rights asks for each right that sessions of this kind need.
func (v *visit) rights(ctx context.Context) {
	needed := v.needed()
	allowed, err := v.Cluster.Allowed(ctx, needed)
	if err != nil {
		v.fail("rights", err)
		return
	}
	granted := 0
	for i, r := range needed {
		if allowed[i] {
			granted++
			continue
		}
		v.tell(lacking(r))
	}
	v.ok("rights", fmt.Sprintf("%d of %d that magpie exec needs", granted, len(needed)))
}

// optional is how Right.For begins where magpie exec goes on without the right.
const optional = "optional: "

func lacking(r cluster.Right) Finding {
	where := "in namespace " + r.Namespace
	if r.Namespace == "" {
		where = "in all namespaces"
	}
	f := Finding{"rights", Fail, fmt.Sprintf("missing: %s %s: %s", r, where, r.For), "ask for the role in " + manifest + ": kubectl apply -n " + r.Namespace + " -f " + manifest}
	if strings.HasPrefix(r.For, optional) {
		f.Verdict = Warn
	}
	return f
}

func (v *visit) needed() []cluster.Right { return nil }

package doctor

import (
	"cmp"
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// enforceLabel says which Pod Security level the API server enforces in a namespace.
const enforceLabel = "pod-security.kubernetes.io/enforce"

// podSecurity reads what pods the namespace admits where the agent would be started. An agent sees the processes of
// its node and adds capabilities, as an ephemeral one does: both need the level privileged.
func (v *visit) podSecurity(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name := v.agentNamespace()
	ns, err := v.Cluster.Client().CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		v.warn("pod security", fmt.Sprintf("namespace %s: its level cannot be read", name), "nothing needs this right but this line; with --target, doctor starts an agent and so finds out")
	case apierrors.IsNotFound(err):
		_, err := v.Cluster.List(ctx, name, false) // which knows the namespaces that were meant
		v.fail("pod security", cmp.Or(err, fmt.Errorf("namespace %s does not exist", name)))
	case err != nil:
		v.fail("pod security", cluster.Explain("read namespace "+name, err))
	default:
		v.tell(securityOf(name, ns.Labels, v.Agent.Namespace != ""))
	}
}

// securityOf judges by the labels of a namespace.
func securityOf(name string, labels map[string]string, ownNamespace bool) Finding {
	f := Finding{Check: "pod security", Verdict: OK}
	switch level := labels[enforceLabel]; level {
	case "":
		f.Text = fmt.Sprintf("namespace %s enforces no level of its own: agents are admitted unless the cluster has a stricter default", name)
	case "privileged":
		f.Text = fmt.Sprintf("namespace %s enforces privileged: agents are admitted", name)
	default:
		f.Verdict = Fail
		f.Text = fmt.Sprintf("namespace %s enforces %s: agents are refused, they see the processes of their node (hostPID) and add capabilities", name, level)
		f.Hint = "let agents be started in a namespace of their own that enforces privileged: --agent-namespace NAME; --target none works here"
		if ownNamespace {
			f.Hint = fmt.Sprintf("kubectl label namespace %s --overwrite %s=privileged", name, enforceLabel)
		}
	}
	return f
}

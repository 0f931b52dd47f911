package cluster

import (
	"slices"
	"strings"
)

// The roles of deploy/rbac.yaml, each for one way to use Magpie.
const (
	RoleDeveloper = "magpie-developer"           // agents as Jobs beside their targets
	RoleEphemeral = "magpie-developer-ephemeral" // agents as containers in their targets' pods
	RoleTargets   = "magpie-targets"             // for the targets' namespace, when agents have another
	RoleAgents    = "magpie-agents"              // for that one
	RoleDoctor    = "magpie-doctor"              // in the whole cluster; nothing in it is necessary
)

// Optional is how Right.For begins where exec goes on without the right.
const Optional = "optional: "

// Needed lists the rights for sessions with targets in one namespace and agents in another (or "", if it is the same), and without Job if
// ephemeral.
func Needed(targets, agents string, ephemeral bool) []Right {
	doctor := Rights(RoleDoctor, "")
	switch {
	case ephemeral:
		return slices.Concat(Rights(RoleEphemeral, targets), doctor)
	case agents != "" && agents != targets:
		return slices.Concat(Rights(RoleTargets, targets), Rights(RoleAgents, agents), doctor)
	}
	return slices.Concat(Rights(RoleDeveloper, targets), doctor)
}

// Rights lists what a role allows in a namespace. It is the least: each right is used.
func Rights(role, namespace string) []Right {
	finding := slices.Concat(
		rights("list watch", "", "pods", "finds the target's pods, and those that come later"),
		rights("get list watch", "", "services", "finds the pods of targets like svc/NAME"),
		rights("get list watch", "apps", "deployments statefulsets daemonsets replicasets", "finds the pods of such targets, and follows them"),
		rights("get list watch", "batch", "jobs cronjobs", "finds the pods of such targets, and follows them"),
		rights("get list watch", "argoproj.io", "rollouts", Optional+"finds the pods of Argo Rollouts"),
		rights("create", "", "events", Optional+"tells the others of sessions"),
	)
	starting := slices.Concat(
		rights("create delete", "batch", "jobs", "starts agents, and takes away those that do not start"),
		rights("get create", "", "pods/portforward", "reaches agents"),
		rights("list", "", "events", Optional+"says why an agent does not start"),
	)
	lists := map[string][]Right{
		RoleDeveloper: slices.Concat(finding, starting),
		RoleTargets:   finding,
		RoleAgents: slices.Concat(starting,
			rights("list watch", "", "pods", "finds agents, and waits for their start"),
			rights("get", "batch", "jobs", "meets others who start the same agent")),
		RoleEphemeral: slices.Concat(finding,
			rights("get", "", "pods", "sees which containers a pod has before it adds one"),
			rights("patch", "", "pods/ephemeralcontainers", "starts agents in their targets' pods"),
			rights("get create", "", "pods/exec", "reaches agents")),
		RoleDoctor: slices.Concat(
			rights("get list", "", "namespaces", Optional+"knows Pod Security levels, and which namespace was meant"),
			rights("list", "apps", "daemonsets", Optional+"knows the network plugin")),
	}
	list := lists[role]
	for i := range list {
		list[i].Namespace = namespace
	}
	return list
}

// rights multiplies verbs by resources, both separated by spaces.
func rights(verbs, group, resources, why string) (list []Right) {
	for name := range strings.FieldsSeq(resources) {
		name, sub, _ := strings.Cut(name, "/")
		for verb := range strings.FieldsSeq(verbs) {
			list = append(list, Right{Verb: verb, Group: group, Resource: name, Subresource: sub, For: why})
		}
	}
	return list
}

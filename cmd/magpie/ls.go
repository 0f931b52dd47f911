package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// candidates is one magpie ls.
type candidates struct {
	flags  *cluster.Flags
	all    bool
	output output
	stderr io.Writer
}

func newLs(flags *cluster.Flags, stderr io.Writer) *cobra.Command {
	l := &candidates{flags: flags, stderr: stderr}
	cmd := &cobra.Command{
		Use:   "ls [KIND]",
		Short: "List what can be a target",
		Long: `List what can be a target in the cluster: Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs,
Rollouts, Services, and Pods. What another target of the list made (the pods of a Deployment) is left out, unless
its KIND is named.`,
		Example: `  magpie ls -n dev              # what --target takes
  magpie ls -n dev pods -o wide # pods, with containers, ports and nodes
  magpie ls -A -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: l.run,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return namedKinds, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().BoolVarP(&l.all, "all-namespaces", "A", false, "in all namespaces")
	l.output.register(cmd, formats...)
	return cmd
}

// namedKinds are the kinds of targets that have names.
var namedKinds = []string{
	cluster.KindDeployment, cluster.KindStatefulSet, cluster.KindDaemonSet, cluster.KindReplicaSet, cluster.KindJob, cluster.KindCronJob,
	cluster.KindRollout, cluster.KindService, cluster.KindPod,
}

func (l *candidates) run(cmd *cobra.Command, args []string) error {
	if err := l.output.check(); err != nil {
		return err
	}
	kind, err := kindOf(args)
	if err != nil {
		return err
	}
	c, err := cluster.Connect(l.flags)
	if err != nil {
		return err
	}
	found, err := c.List(cmd.Context(), "", l.all)
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(c cluster.Candidate) bool {
		return kind != "" && c.Kind != kind || kind == "" && c.Owner != ""
	})
	if len(found) == 0 {
		where := "in namespace " + c.Namespace()
		if l.all {
			where = "in any namespace"
		}
		fmt.Fprintf(l.stderr, "magpie: nothing can be a target %s\n", where)
	}
	return l.output.print(cmd.OutOrStdout(), l.listing(found))
}

// kindOf reads KIND as --target does.
func kindOf(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	t, err := cluster.ParseTarget(args[0] + "/name")
	if err != nil || t.Name == "" {
		return "", usage("the kinds are: "+strings.Join(namedKinds, ", "), "there is no kind %q", args[0])
	}
	return t.Kind, nil
}

// candidate is a row for programs.
type candidate struct {
	Target     string   `json:"target"`
	Namespace  string   `json:"namespace"`
	Owner      string   `json:"owner,omitempty"`
	Ready      int      `json:"ready"`
	Desired    int      `json:"desired"`
	AgeSeconds int64    `json:"ageSeconds"`
	Containers []string `json:"containers"`
	Ports      []string `json:"ports"`
	Nodes      []string `json:"nodes"`
}

func (l *candidates) listing(found []cluster.Candidate) listing {
	list := listing{header: []string{"TARGET", "READY", "AGE", "CONTAINERS", "PORTS", "NODES"}, wide: 3}
	values := []candidate{}
	for _, c := range found {
		v := candidate{
			Target: c.Target, Namespace: c.Namespace, Owner: c.Owner, Ready: c.Ready, Desired: c.Desired, AgeSeconds: int64(c.Age / time.Second),
			Containers: orEmpty(c.Containers), Ports: portsOf(c), Nodes: nodesOf(c.Pods),
		}
		values = append(values, v)
		list.names = append(list.names, c.Target)
		list.rows = append(list.rows, []string{
			c.Target, fmt.Sprintf("%d/%d", c.Ready, c.Desired), age(c.Age),
			orNone(v.Containers), orNone(v.Ports), orNone(v.Nodes),
		})
	}
	list.values = values
	if l.all {
		list = list.inNamespaces(func(i int) string { return values[i].Namespace })
	}
	return list
}

func portsOf(c cluster.Candidate) []string {
	ports := []string{}
	for _, p := range c.Ports {
		text := strconv.Itoa(int(p.ContainerPort))
		if p.Protocol != "" && p.Protocol != "TCP" {
			text += "/" + string(p.Protocol)
		}
		ports = append(ports, text)
	}
	return ports
}

func nodesOf(pods []cluster.Pod) []string {
	nodes := []string{}
	for _, p := range pods {
		if p.Node != "" && !slices.Contains(nodes, p.Node) {
			nodes = append(nodes, p.Node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "<none>"
	}
	return strings.Join(list, ",")
}

// age is a duration as kubectl shows it, in one unit.
func age(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

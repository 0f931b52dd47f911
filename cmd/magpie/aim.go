package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/magpie-k8s/magpie/client/cluster"
)

const targetHint = "say whom to stand in for, as in --target deploy/ems, -p ems-5d9c7-x2x4v or, on this machine, --target netns/shop"

// aim says whom to stand in for.
type aim struct {
	target, pod, container string
}

func (a *aim) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&a.target, "target", "t", "", "whom to stand in for: `KIND/NAME`")
	flags.StringVarP(&a.pod, "pod", "p", "", "short for --target pod/`NAME`")
	flags.StringVarP(&a.container, "container", "c", "", "`name` of the container that is meant (else the one that kubectl would choose)")
}

// given reports whether a target was named at all.
func (a *aim) given() bool { return a.target != "" || a.pod != "" }

// resolve returns the target that all flags together name, and whether it is in a cluster.
func (a *aim) resolve(cmd *cobra.Command) (name string, inCluster bool, err error) {
	name = a.target
	switch {
	case !a.given():
		return "", false, usage(targetHint, "%s: no target", cmd.Name())
	case a.target != "" && a.pod != "":
		return "", false, usage("--pod NAME is short for --target pod/NAME: keep one of them", "--target %s and --pod %s: there can be one target only", a.target, a.pod)
	case a.pod != "":
		name = "pod/" + strings.TrimPrefix(a.pod, "pod/")
	}
	if !cluster.IsClusterTarget(name) {
		return name, false, a.onlyLocal(cmd, name)
	}
	t, err := cluster.ParseTarget(name)
	if err != nil {
		return "", true, usage(cmp.Or(meantHere(name), hintOf(err)), "%w", err)
	}
	if a.container != "" && t.Container != "" && a.container != t.Container {
		return "", true, usage("keep one of them", "--target %s and --container %s: there can be one container only", name, a.container)
	}
	if a.container != "" {
		t.Container = a.container
		if t, err = cluster.ParseTarget(t.String()); err != nil {
			return "", true, usage(hintOf(err), "%w", err)
		}
	}
	return t.String(), true, nil
}

// meantHere is the hint for a name without a kind that is known on this machine.
func meantHere(name string) string {
	if _, err := strconv.Atoi(name); err == nil {
		return "did you mean pid/" + name + "?"
	}
	if slices.Contains(namespacesHere(), "netns/"+name) {
		return "did you mean netns/" + name + "?"
	}
	return ""
}

// onlyLocal refuses flags that mean nothing for a target on this machine, because who gave them meant another one.
func (a *aim) onlyLocal(cmd *cobra.Command, name string) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Annotations[forClusters] != nil || cmd.InheritedFlags().Lookup(f.Name) != nil {
			err = usage("leave it out, or name a target in the cluster: deploy/NAME", "--target %s is on this machine: --%s is for targets in a cluster", name, f.Name)
		}
	})
	return err
}

// forClusters marks flags that only targets in a cluster have a use for.
const forClusters = "magpie-for-clusters"

func markForClusters(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		_ = flags.SetAnnotation(name, forClusters, []string{})
	}
}

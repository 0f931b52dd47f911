package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// completionTime is how long somebody who pressed Tab waits for a cluster before the shell offers nothing.
const completionTime = 2 * time.Second

// asked is the answer to a question that completion puts to the cluster, the zero answer when there is none in time.
// Completion has no way to say what went wrong, and should not: the command itself will.
func asked[T any](cmd *cobra.Command, flags *cluster.Flags, question func(context.Context, *cluster.Cluster) (T, error)) (answer T) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	answers := make(chan T, 1)
	go func() { // a credential plugin may not know of any timeout
		defer close(answers)
		c, err := cluster.Connect(flags)
		if err != nil {
			return
		}
		if a, err := question(ctx, c); err == nil {
			answers <- a
		}
	}()
	select {
	case answer = <-answers:
	case <-ctx.Done():
	}
	return answer
}

// completeConnection completes kubectl's own flags.
func completeConnection(root *cobra.Command, flags *cluster.Flags) {
	_ = root.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return flags.Contexts(), cobra.ShellCompDirectiveNoFileComp
	})
	_ = root.RegisterFlagCompletionFunc("namespace", completeNamespace(flags))
}

func completeNamespace(flags *cluster.Flags) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return asked(cmd, flags, func(ctx context.Context, c *cluster.Cluster) ([]string, error) {
			return c.Namespaces(ctx)
		}), cobra.ShellCompDirectiveNoFileComp
	}
}

// complete completes the flags that name a target.
func (a *aim) complete(cmd *cobra.Command, flags *cluster.Flags) {
	for flag, complete := range map[string]func(cmd *cobra.Command, typed string) ([]string, cobra.ShellCompDirective){
		"target": func(cmd *cobra.Command, typed string) ([]string, cobra.ShellCompDirective) {
			return completeTarget(cmd, flags, typed)
		},
		"pod": func(cmd *cobra.Command, _ string) ([]string, cobra.ShellCompDirective) {
			return completePod(cmd, flags)
		},
		"container": func(cmd *cobra.Command, _ string) ([]string, cobra.ShellCompDirective) {
			return a.completeContainer(cmd, flags)
		},
	} {
		_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return complete(cmd, typed)
		})
	}
}

// completeTarget offers kinds until there is a slash, and then names.
func completeTarget(cmd *cobra.Command, flags *cluster.Flags, typed string) ([]string, cobra.ShellCompDirective) {
	word, rest, named := strings.Cut(typed, "/")
	if !named {
		return kindsOf(typed)
	}
	if word == "netns" {
		return namespacesHere(), cobra.ShellCompDirectiveNoFileComp
	}
	t, err := cluster.ParseTarget(word + "/name")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all := listed(cmd, flags)
	var found []string
	if name, _, ok := strings.Cut(rest, "/"); ok {
		for _, container := range containersOf(all, t.Kind, name) {
			found = append(found, word+"/"+name+"/container/"+container)
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
	for _, c := range all {
		if c.Kind == t.Kind {
			found = append(found, word+"/"+c.Name) // in the user's own word for the kind
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// longKinds are for who begins to type one.
var longKinds = []string{"deployment", "statefulset", "daemonset", "replicaset", "service"}

// kindsOf offers what --target can begin with.
func kindsOf(typed string) (found []string, _ cobra.ShellCompDirective) {
	if typed != "" && strings.HasPrefix(cluster.KindNone, typed) {
		return []string{cluster.KindNone}, cobra.ShellCompDirectiveNoFileComp
	}
	for _, kinds := range [][]string{slices.Concat(namedKinds, []string{cluster.KindLabel, "netns", "pid"}), longKinds} {
		for _, kind := range kinds {
			if strings.HasPrefix(kind, typed) {
				found = append(found, kind+"/")
			}
		}
		if len(found) > 0 {
			break
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveKeepOrder
}

// namespacesHere lists the network namespaces of this machine.
func namespacesHere() (found []string) {
	entries, _ := os.ReadDir("/run/netns")
	for _, e := range entries {
		found = append(found, "netns/"+e.Name())
	}
	return found
}

func completePod(cmd *cobra.Command, flags *cluster.Flags) ([]string, cobra.ShellCompDirective) {
	var found []string
	for _, c := range listed(cmd, flags) {
		if c.Kind == cluster.KindPod {
			found = append(found, c.Name)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

func (a *aim) completeContainer(cmd *cobra.Command, flags *cluster.Flags) ([]string, cobra.ShellCompDirective) {
	name, inCluster, err := a.resolve(cmd)
	if err != nil || !inCluster {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	t, err := cluster.ParseTarget(name)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return containersOf(listed(cmd, flags), t.Kind, t.Name), cobra.ShellCompDirectiveNoFileComp
}

func listed(cmd *cobra.Command, flags *cluster.Flags) []cluster.Candidate {
	return asked(cmd, flags, func(ctx context.Context, c *cluster.Cluster) ([]cluster.Candidate, error) {
		return c.List(ctx, "", false)
	})
}

func containersOf(all []cluster.Candidate, kind, name string) []string {
	i := slices.IndexFunc(all, func(c cluster.Candidate) bool { return c.Kind == kind && c.Name == name })
	if i < 0 {
		return nil
	}
	return all[i].Containers
}

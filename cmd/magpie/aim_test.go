package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestFlagsNameOneTarget(t *testing.T) {
	for _, c := range []struct {
		args      string
		want      string
		inCluster bool
		problem   string
	}{
		{"-t deploy/ems", "deploy/ems", true, ""},
		{"-t deployment/ems -c web", "deploy/ems/container/web", true, ""},
		{"-t deploy/ems/container/web -c web", "deploy/ems/container/web", true, ""},
		{"-p ems-1", "pod/ems-1", true, ""},
		{"-p pod/ems-1 -c web", "pod/ems-1/container/web", true, ""},
		{"-t none", "none", true, ""},
		{"-t label/app=ems", "label/app=ems", true, ""},
		{"-t netns/shop", "netns/shop", false, ""},
		{"-t pid/4711", "pid/4711", false, ""},
		{"", "", false, "no target"},
		{"-t deploy/ems -p ems-1", "", false, "one target only"},
		{"-t deploy/ems/container/web -c db", "", true, "one container only"},
		{"-t netns/shop -c web", "netns/shop", false, "--container is for targets in a cluster"},
		{"-t pid/1 -n dev", "pid/1", false, "--namespace is for targets in a cluster"},
		{"-t deploy/ems -c Web!", "", true, "cannot be a container's name"},
		{"-t ems", "", true, "of which kind?"},
		{"-t depoy/ems", "", true, "no kind"},
	} {
		var a aim
		root := &cobra.Command{Use: "magpie"}
		root.PersistentFlags().StringP("namespace", "n", "", "")
		cmd := &cobra.Command{Use: "exec", RunE: func(*cobra.Command, []string) error { return nil }}
		root.AddCommand(cmd)
		a.register(cmd)
		markForClusters(cmd.Flags(), "container")
		root.SetArgs(append([]string{"exec"}, strings.Fields(c.args)...))
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		got, inCluster, err := a.resolve(cmd)
		if c.problem != "" {
			if err == nil || !strings.Contains(err.Error(), c.problem) || hintOf(err) == "" {
				t.Errorf("%s: %v (hint %q), want %q", c.args, err, hintOf(err), c.problem)
			}
			continue
		}
		if err != nil || got != c.want || inCluster != c.inCluster {
			t.Errorf("%s: %q, %v, %v; want %q, %v", c.args, got, inCluster, err, c.want, c.inCluster)
		}
	}
}

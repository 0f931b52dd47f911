//go:build e2e

package e2e

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// connect is what magpie does with these flags.
func connect(tb testing.TB, flags ...string) *cluster.Cluster {
	tb.Helper()
	f, set := cluster.NewFlags(), pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.Register(set)
	if err := set.Parse(append([]string{"--kubeconfig", kubeconfig}, flags...)); err != nil {
		tb.Fatal(err)
	}
	c, err := cluster.Connect(f)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func mustTarget(tb testing.TB, text string) cluster.Target {
	tb.Helper()
	target, err := cluster.ParseTarget(text)
	if err != nil {
		tb.Fatal(err)
	}
	return target
}

func podNames(pods []cluster.Pod) []string {
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	return names
}

// mustSay fails unless the error has this in its cause and that in its hint.
func mustSay(tb testing.TB, err error, cause, hint string) {
	tb.Helper()
	var hinted interface{ Hint() string }
	if err == nil || !errors.As(err, &hinted) || !strings.Contains(err.Error(), cause) || !strings.Contains(hinted.Hint(), hint) {
		advice := ""
		if hinted != nil {
			advice = hinted.Hint()
		}
		tb.Errorf("%v\nhint: %s\nwant: %s\nhint: %s", err, advice, cause, hint)
		return
	}
	tb.Logf("%v\nhint: %s", err, hinted.Hint())
}

package main

import "testing"

func TestAPluginOfKubectlIsCalledThroughIt(t *testing.T) {
	for file, want := range map[string]string{
		"magpie":                        "magpie",
		"/usr/local/bin/magpie":         "magpie",
		"/home/me/.krew/kubectl-magpie": "kubectl magpie",
		"kubectl-magpie.exe":            "kubectl magpie",
		"./anything-else":               "magpie",
	} {
		if got := programName(file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

package main

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	magpie := func() { os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr)) }
	testscript.Main(m, map[string]func(){"magpie": magpie, "kubectl-magpie": magpie})
}

// TestScripts runs what a user types and compares each word of the answer, and the exit status (see exits).
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Condition: func(cond string) (bool, error) {
			return cond == "root" && os.Geteuid() == 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

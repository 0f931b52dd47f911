package main

import (
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// exits runs magpie and fails unless it exits with the status: exits STATUS ARG... What it said on stderr is in the
// file said.err too.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS ARG...")
	}
	ts.Check(ts.Exec("sh", append([]string{"-c", `magpie "$@" 2>said.err; echo $? >status; cat said.err >&2`, "sh"}, args[1:]...)...))
	if got := strings.TrimSpace(ts.ReadFile("status")); got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

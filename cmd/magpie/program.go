package main

import (
	"path/filepath"
	"strings"
)

// ownName is how the program is called when it is not a plugin of kubectl.
const ownName = "magpie"

// programName is what a user types to run the program: a file kubectl-magpie in $PATH is `kubectl magpie`.
func programName(file string) string {
	if plugin, ok := strings.CutPrefix(strings.TrimSuffix(filepath.Base(file), ".exe"), "kubectl-"); ok {
		return "kubectl " + plugin
	}
	return ownName
}

// called puts the name of the program into examples.
func called(program, examples string) string {
	return strings.ReplaceAll(examples, "  "+ownName+" ", "  "+program+" ")
}

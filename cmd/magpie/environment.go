package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// ownVariables are the variables that stay the developer's: they describe his machine, his shell and his tool
// chains, which are where the process really runs. --env-include takes one of them from the target all the same.
var ownVariables = []string{
	"PATH", "HOME", "SHELL", "USER", "LOGNAME", "PWD", "OLDPWD", "SHLVL", "_", "TERM", "TERMINFO", "COLORTERM",
	"LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "EDITOR", "PAGER", "DISPLAY", "WAYLAND_DISPLAY", "XDG_*", "SSH_*", "SUDO_*",
	"DBUS_SESSION_BUS_ADDRESS", "container", "INVOCATION_ID", "JOURNAL_STREAM", "LD_*",
	"GOPATH", "GOROOT", "GOBIN", "GOCACHE", "JAVA_HOME", "CLASSPATH", "JAVA_VERSION", "NODE_PATH", "NODE_VERSION", "NVM_*",
	"PYTHONPATH", "PYTHONHOME", "PYTHON_VERSION", "VIRTUAL_ENV", "GEM_HOME", "GEM_PATH", "BUNDLE_*", "RUBYLIB", "CARGO_HOME", "RUSTUP_HOME",
}

// envFlags say which variables of the target the local process gets.
type envFlags struct {
	include, exclude, set []string
}

func (e *envFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&e.include, "env-include", nil, "take only these variables of the target; `patterns` like 'DB_*,REDIS_URL'")
	flags.StringSliceVar(&e.exclude, "env-exclude", nil, "do not take these variables of the target (`patterns`)")
	flags.StringArrayVar(&e.set, "env", nil, "set a variable for the local process, as `KEY=VALUE`; stronger than the target's")
}

func (e *envFlags) check() error {
	for _, pattern := range slices.Concat(e.include, e.exclude) {
		if _, err := path.Match(pattern, ""); err != nil {
			return usage("patterns are like those of a shell: DB_*, REDIS_?, [AB]_URL", "--env-include, --env-exclude: pattern %q: %w", pattern, err)
		}
	}
	for _, kv := range e.set {
		if key, _, ok := strings.Cut(kv, "="); !ok || key == "" {
			return usage("write it as --env 'KEY=VALUE'", "--env %q: there is no value", kv)
		}
	}
	return nil
}

// merge returns the environment of the local process: the developer's own, over it what the flags let through of
// the target's, over that what --env sets.
func (e *envFlags) merge(own, target []string) []string {
	merged := slices.Clone(own)
	for _, kv := range target {
		if key, _, ok := strings.Cut(kv, "="); ok && e.takes(key) {
			merged = assign(merged, key, kv)
		}
	}
	for _, kv := range e.set {
		key, _, _ := strings.Cut(kv, "=")
		merged = assign(merged, key, kv)
	}
	return merged
}

// takes reports whether the variable comes from the target.
func (e *envFlags) takes(key string) bool {
	if anyMatches(e.exclude, key) {
		return false
	}
	if len(e.include) > 0 {
		return anyMatches(e.include, key)
	}
	return !anyMatches(ownVariables, key)
}

func anyMatches(patterns []string, key string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, key) // patterns are checked, or ours
		return ok
	})
}

// assign replaces the variable key by kv, or appends it.
func assign(env []string, key, kv string) []string {
	for i := range env {
		if k, _, _ := strings.Cut(env[i], "="); k == key {
			env[i] = kv
			return env
		}
	}
	return append(env, kv)
}

// taken says how many of the target's variables the local process gets.
func (e *envFlags) taken(target []string) string {
	n := 0
	for _, kv := range target {
		if key, _, ok := strings.Cut(kv, "="); ok && e.takes(key) {
			n++
		}
	}
	return fmt.Sprintf("%d of %d variables of the target", n, len(target))
}

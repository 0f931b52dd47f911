package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/magpie-k8s/magpie/internal/nearest"
)

// An Error says in one line why a target was not found, and in another what to do.
type Error struct {
	cause string
	err   error // holds the errno
	hint  string
}

func (e *Error) Error() string { return e.cause }

// Unwrap returns what errors.Is finds the errno in.
func (e *Error) Unwrap() error { return e.err }

// Hint returns one line for the user, or "".
func (e *Error) Hint() string { return e.hint }

// The kinds of targets.
const (
	kindNetns     = "netns"
	kindPID       = "pid"
	kindContainer = "container"
	kindNone      = "none"
)

const grammar = "a target is netns/NAME, pid/N, container/ID or none"

// clusterKinds are what a client finds in a cluster: an agent is told the container.
var clusterKinds = []string{
	"pod", "deploy", "deployment", "sts", "statefulset", "rs", "replicaset", "ds", "daemonset", "job", "cronjob", "rollout", "svc",
	"service", "label",
}

// parse splits a target into its kind and the rest.
func parse(name string) (kind, rest string, err error) {
	kind, rest, split := strings.Cut(name, "/")
	switch {
	case split && rest != "" && (kind == kindNetns || kind == kindPID || kind == kindContainer), name == kindNone:
		return kind, rest, nil
	case name == "":
		return "", "", &Error{"target: none is given", syscall.EINVAL, grammar}
	case !split:
		return "", "", &Error{fmt.Sprintf("target %q: it has no kind", name), syscall.EINVAL, guess(name)}
	case rest == "":
		return "", "", &Error{fmt.Sprintf("target %q: it has no name", name), syscall.EINVAL, grammar}
	case slices.Contains(clusterKinds, kind):
		return "", "", &Error{fmt.Sprintf("target %q: an agent stands beside one container, not beside a %s", name, kind), syscall.EOPNOTSUPP, grammar}
	}
	hint := grammar
	if near := nearest.Word(kind, []string{kindNetns, kindPID, kindContainer}); near != "" {
		hint = "did you mean " + near + "/" + rest + "?"
	}
	return "", "", &Error{fmt.Sprintf("target %q: there is no kind %q", name, kind), syscall.EINVAL, hint}
}

// guess completes a target without a kind.
func guess(name string) string {
	if _, err := strconv.Atoi(name); err == nil {
		return "did you mean pid/" + name + "?"
	}
	if slices.Contains(named(), name) {
		return "did you mean netns/" + name + "?"
	}
	return grammar
}

// explain puts the target's name and a hint to an error.
func explain(name string, err error) error {
	hint := ""
	var known *Error
	switch {
	case errors.As(err, &known) && known.hint != "":
		hint = known.hint
	case errors.Is(err, fs.ErrPermission) && strings.HasPrefix(name, kindContainer+"/"):
		hint = "the agent needs root and the capabilities SYS_ADMIN and SYS_PTRACE"
	case errors.Is(err, fs.ErrPermission):
		hint = "it needs root: sudo"
	case errors.Is(err, syscall.EINVAL), errors.Is(err, fs.ErrInvalid):
		hint = grammar + "; the NAMEs: ip netns list"
	case errors.Is(err, syscall.ESRCH), errors.Is(err, fs.ErrNotExist):
		hint = "pgrep -a NAME lists processes with their ids"
	}
	return &Error{fmt.Sprintf("target %s: %v", name, err), err, hint}
}

// maxListed bounds the names in a hint, which is one line.
const maxListed = 10

// noNetns explains why a named namespace cannot be opened.
func noNetns(name string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	all := named()
	hint := "there are none; make one with: ip netns add " + name
	if near := nearest.Word(name, all); near != "" {
		hint = "did you mean netns/" + near + "?"
	} else if len(all) > maxListed {
		hint = fmt.Sprintf("there are %d: ip netns list", len(all))
	} else if len(all) > 0 {
		hint = "there are: " + strings.Join(all, ", ")
	}
	return &Error{"no such network namespace", syscall.ENOENT, hint}
}

// named lists the names of ip-netns(8).
func named() []string {
	entries, err := os.ReadDir(namedDir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/magpie-k8s/magpie/internal/nearest"
)

// Exit statuses of magpie's own; every other status is the command's. They follow env(1) and docker-run(1).
const (
	statusUsage         = 2   // a flag, an expression or an argument is wrong; nothing was attached
	statusMagpie        = 125 // Magpie could not do its part
	statusNotExecutable = 126 // the command is there, but cannot be run
	statusNotFound      = 127 // the command is not there
	statusSignal        = 128 // plus the number of the signal that ended the command
)

// failure is an error as the user sees it: one line of cause, one of hint, and an exit status.
type failure struct {
	status int
	cause  error
	hint   string
}

func (f *failure) Error() string { return f.cause.Error() }
func (f *failure) Unwrap() error { return f.cause }
func (f *failure) Hint() string  { return f.hint }

// ended carries the exit status of a command that ran: nothing to print.
type ended int

func (e ended) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// exitStatus prints what err has to say, if anything, and returns the status to exit with.
func exitStatus(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	var command ended
	if errors.As(err, &command) {
		return int(command)
	}
	fmt.Fprintf(stderr, "magpie: %v\n", err)
	var caret interface{ Caret() string }
	if errors.As(err, &caret) {
		fmt.Fprintln(stderr, indent(caret.Caret()))
	}
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	var f *failure
	if errors.As(err, &f) {
		return f.status
	}
	return statusMagpie
}

// hintOf returns what an error in the chain says to do, "" if none does.
func hintOf(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

func indent(lines string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(lines, "\n"), "\n", "\n  ")
}

// usage is a failure for which the user's words are to blame.
func usage(hint, format string, args ...any) error {
	return &failure{status: statusUsage, cause: fmt.Errorf(format, args...), hint: hint}
}

// flagError explains what is wrong with a flag and names the nearest right one.
func flagError(cmd *cobra.Command, err error) error {
	hint := fmt.Sprintf("see '%s --help'", cmd.CommandPath())
	if name, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		if near := nearest.Word(name, flagNames(cmd)); near != "" {
			hint = fmt.Sprintf("did you mean --%s? See '%s --help'", near, cmd.CommandPath())
		}
	}
	return usage(hint, "%w", err)
}

func flagNames(cmd *cobra.Command) (names []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/internal/nearest"
)

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "magpie",
		Short: "Run a local process as if it ran inside a pod",
		Long: `Magpie runs a process on this machine as if it ran inside a pod: it takes for it the requests that are yours,
and leaves all others to the original, which never knows. What your process connects to, looks up and finds in
its environment is what the pod would see.`,
		Example:       execExample,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(cmd, err) })
	root.AddCommand(newExec(stderr), newVersion())
	for _, cmd := range root.Commands() {
		// Completion scripts must not offer files where none can stand.
		if cmd.ValidArgsFunction == nil && cmd.Args == nil {
			cmd.Args = cobra.NoArgs
		}
	}
	return root
}

// knownCommand is asked about what is no command, and names the nearest that is one.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	hint := "see 'magpie --help'"
	if near := nearest.Word(args[0], names); near != "" {
		hint = "did you mean '" + near + "'? See 'magpie --help'"
	}
	return usage(hint, "unknown command %q", args[0])
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "magpie %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

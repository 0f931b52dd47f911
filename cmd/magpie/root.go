package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/internal/nearest"
)

func newRoot(program string, stdout, stderr io.Writer) *cobra.Command {
	flags := cluster.NewFlags()
	root := &cobra.Command{
		Use:   ownName,
		Short: "Run a local process as if it ran inside a pod",
		Long: `Magpie runs a process on this machine as if it ran inside a pod: it takes for it the requests that are yours,
and leaves all others to the original, which never knows. What your process connects to, looks up and finds in
its environment is what the pod would see.`,
		Example:       execExample,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: program},
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(cmd, err) })
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "Global Flags:", "Flags for the cluster, as kubectl's:", 1))
	flags.Register(root.PersistentFlags())
	completeConnection(root, flags)
	root.AddCommand(newExec(flags, stderr), newLs(flags, stderr), newSessions(flags, stderr), newDoctor(flags), newVersion())
	for _, cmd := range root.Commands() {
		prepare(cmd, program)
	}
	return root
}

// prepare does what every command needs.
func prepare(cmd *cobra.Command, program string) {
	cmd.Example = called(program, cmd.Example)
	// Completion scripts must not offer files where none can stand.
	if cmd.ValidArgsFunction == nil && cmd.Args == nil {
		cmd.Args = cobra.NoArgs
	}
	for _, below := range cmd.Commands() {
		prepare(below, program)
	}
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
	hint := "see '" + cmd.CommandPath() + " --help'"
	if near := nearest.Word(args[0], names); near != "" {
		hint = "did you mean '" + near + "'? S" + hint[1:]
	}
	return usage(hint, "unknown command %q", args[0])
}

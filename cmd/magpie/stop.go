package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/client"
	"github.com/magpie-k8s/magpie/client/agentpod"
	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/internal/nearest"
)

func newStop(kubectl *cluster.Flags, stderr io.Writer) *cobra.Command {
	s := &survey{kubectl: kubectl, stderr: stderr}
	cmd := &cobra.Command{
		Use:   "stop ID",
		Short: "End a session, whosever it is",
		Long: `End a session on all of its pods. Requests that it took go to the original again, and its magpie exec ends with
your name as the cause: it does not come back by itself. 'magpie sessions' lists the IDs.`,
		Example: "  magpie sessions stop 4f1c09ae -n dev",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("name one: 'magpie sessions' lists the IDs", "sessions stop: which session?")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := s.stop(cmd, args[0])
			if err != nil {
				return err
			}
			if n == 0 {
				return &failure{statusMagpie, fmt.Errorf("stop session %s: there is none", args[0]), s.sessionHint(cmd, args[0])}
			}
			fmt.Fprintf(stderr, "magpie: session %s ended on %d of its agents\n", args[0], n)
			return nil
		},
		ValidArgsFunction: s.completeID,
	}
	s.register(cmd)
	return cmd
}

// stop returns how many agents ended the session.
func (s *survey) stop(cmd *cobra.Command, id string) (stopped int, err error) {
	agents, err := s.agents(cmd)
	if err != nil {
		return 0, err
	}
	s.each(cmd.Context(), agents, func(ctx context.Context, _ *agentpod.Agent, pipe io.ReadWriteCloser) (func(), error) {
		n, err := client.Stop(ctx, pipe, id)
		return func() { stopped += n }, err
	})
	return stopped, nil
}

// sessionHint names the session that was perhaps meant.
func (s *survey) sessionHint(cmd *cobra.Command, id string) string {
	hint := "'magpie sessions' lists those in a namespace, 'magpie sessions -A' all"
	if near := nearest.Word(id, s.ids(cmd)); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return hint
}

// ids is for hints and completion, which have no use for errors.
func (s *survey) ids(cmd *cobra.Command) (ids []string) {
	found, _ := s.run(cmd)
	for _, session := range found {
		ids = append(ids, session.ID)
	}
	return ids
}

func (s *survey) completeID(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	cmd.SetContext(ctx)
	s.stderr = io.Discard
	return s.ids(cmd), cobra.ShellCompDirectiveNoFileComp
}

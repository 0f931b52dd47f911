package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/agent"
)

func newJoin() *cobra.Command {
	var target, lendTo string
	var linger time.Duration
	cmd := &cobra.Command{
		Use:   "join --target KIND/NAME --lend-to SOCKET",
		Short: "Open a pipe to the target's agent on this machine, started if need be, and lend it to a client",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: lendTo, Net: "unix"})
			if err != nil {
				return fmt.Errorf("client: %w", err)
			}
			defer client.Close()
			pipe, err := join(cmd.Context(), target, linger)
			if err != nil {
				return agent.Refuse(client, err)
			}
			defer pipe.Close()
			return agent.Lend(client, pipe)
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "whom the agent stands beside: netns/NAME, pid/N or container/ID")
	cmd.Flags().DurationVar(&linger, "linger", time.Minute, "for an agent that is started: see serve")
	cmd.Flags().StringVar(&lendTo, "lend-to", "", "the client's unix socket")
	return cmd
}

func join(ctx context.Context, target string, linger time.Duration) (*os.File, error) {
	key, err := agent.TargetKey(target)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Not CommandContext: the agent outlives us.
	return agent.DoorOf(key).Enter(ctx, exec.Command(self, "serve", "--target", target, "--linger", linger.String(), "--socket-fd", "3", "--word-fd", "4"))
}

package main

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"
)

func newPipe(stdin io.Reader, stdout io.Writer) *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "pipe --socket PATH",
		Short: "Join stdin and stdout to an agent's unix socket: a carrier by way of exec",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
			if err != nil {
				return fmt.Errorf("agent: %w", err)
			}
			defer c.Close()
			return pipe(cmd.Context(), c, stdin, stdout)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "where the agent listens")
	return cmd
}

// pipe copies both ways until the agent has ended its side, or ctx ends. The end of stdin ends only the way to the agent.
func pipe(ctx context.Context, c *net.UnixConn, stdin io.Reader, stdout io.Writer) error {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	go send(c, stdin) // nobody can interrupt a read of stdin: it ends with the process
	_, err := io.Copy(stdout, struct{ io.Reader }{c})
	return err
}

// send gives the agent what comes. What it cannot send will show when the agent's side ends.
func send(c *net.UnixConn, stdin io.Reader) {
	if _, err := io.Copy(struct{ io.Writer }{c}, stdin); err != nil {
		c.Close()
		return
	}
	_ = c.CloseWrite()
}

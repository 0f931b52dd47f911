// Command magpie-agent stands beside a target and steers its connections for the sessions of Magpie's clients.
// People do not run it by hand: magpie does. It never touches a connection to a port that no session claims.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal does not wait for connections
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "magpie-agent",
		Short:         "Stands beside a target for the sessions of magpie",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(newJoin(), newServe(stderr), newPipe(stdin, stdout))
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(stderr, "magpie-agent: %v\n", err)
		return 1
	}
	return 0
}

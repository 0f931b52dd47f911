// Command magpie runs a process on this machine as if it ran inside a pod. It parses, joins the client with the
// layer, and prints; it never decides who answers a request.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/layer"
)

// version is set by the linker.
var version = "devel"

func main() {
	layer.Main() // the stages of the layer are this very program: they never return from here
	if os.Getenv("MAGPIE_DEBUG") == "" {
		cluster.LogTo(slog.New(slog.DiscardHandler)) // what client-go logs, it returns as an error too
	}
	os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr))
}

// run is magpie as a function of its arguments, the first of which is its own name. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(programName(args[0]), stdout, stderr)
	root.SetArgs(args[1:])
	return exitStatus(stderr, root.ExecuteContext(ctx))
}

// Command bench measures Magpie beside direct connections, HAProxy and nginx, and programs under the layer beside the
// same programs without it, all in one run on this machine. It prints tables of medians and asserts nothing: the
// numbers are for docs/BENCHMARKS.md and for people.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// everything is the parts, in their order.
var everything = []string{"http1", "http2", "layer"}

// patience bounds what is not load: starting, compiling and the layer's part.
const patience = 10 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == serveCommand {
		return serveH2(args[1], args[2])
	}
	if len(args) > 0 && args[0] == askCommand {
		return runAsk(out, args[1], args[2], args[3])
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rounds := flags.Int("rounds", 5, "rounds of each; medians are printed")
	length := flags.Duration("duration", 3*time.Second, "length of one measurement, in whole seconds")
	conns := flags.Int("connections", 64, "keep-alive connections of the load")
	parts := flags.String("parts", strings.Join(everything, ","), "what to measure")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root, for namespaces of its own: sudo make bench")
	}
	ctx, cancel := context.WithTimeout(ctx, patience+time.Duration(*rounds)*40**length)
	defer cancel()
	printMachine(ctx, out)
	with := load{connections: *conns, length: *length}
	for part := range strings.SplitSeq(*parts, ",") {
		var err error
		switch part {
		case "http1":
			err = measureTheWay(ctx, out, with, *rounds)
		case "http2":
			err = measureH2(ctx, out, *length, *rounds)
		case "layer":
			err = measureTheLayer(ctx, out, *rounds)
		default:
			err = fmt.Errorf("there is no part %q: there are %s", part, strings.Join(everything, ", "))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// measureTheLayer is what needs no agent.
func measureTheLayer(ctx context.Context, out io.Writer, rounds int) error {
	costs, err := measureLayer(ctx, rounds)
	if err == nil {
		printCosts(out, "The layer alone, with a pod of the test's own", costs)
	}
	return err
}

// measureTheWay is what needs the lab.
func measureTheWay(ctx context.Context, out io.Writer, with load, rounds int) error {
	lab, err := openLab(ctx, startOriginal, startHAProxy, startNginx, startAgent, startSession)
	if err != nil {
		return err
	}
	defer lab.close()
	rows, err := measureWays(ctx, lab, lab.ways(), with, rounds)
	if err != nil {
		return err
	}
	printRouting(out, with, rounds, rows)
	memory, err := measureMemory(ctx, lab)
	if err != nil {
		return err
	}
	printMemory(out, memory)
	costs, err := measureChain(ctx, lab, rounds)
	if err != nil {
		return err
	}
	printCosts(out, "A program under magpie exec, with the agent, beside the same in the pod", costs)
	return nil
}

func printMachine(ctx context.Context, out io.Writer) {
	release, _ := exec.CommandContext(ctx, "uname", "-sr").Output()
	model := "unknown CPU"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(info), "model name"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			model = strings.TrimSpace(strings.TrimLeft(line, "\t :"))
		}
	}
	fmt.Fprintf(out, "%s, %d cores of %s, %s, %s\n", time.Now().Format(time.DateOnly), runtime.NumCPU(), model, strings.TrimSpace(string(release)), runtime.Version())
}

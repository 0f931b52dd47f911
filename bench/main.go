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
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rounds := flags.Int("rounds", 5, "rounds of each; medians are printed")
	length := flags.Duration("duration", 3*time.Second, "length of one measurement, in whole seconds")
	conns := flags.Int("connections", 64, "keep-alive connections of the load")
	layer := flags.Bool("layer", true, "measure the costs of the layer too")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root, for namespaces of its own: sudo make bench")
	}
	ctx, cancel := context.WithTimeout(ctx, patience+time.Duration(*rounds)*10**length)
	defer cancel()
	printMachine(ctx, out)
	if err := measureTheWay(ctx, out, load{connections: *conns, length: *length}, *rounds); err != nil {
		return err
	}
	if !*layer {
		return nil
	}
	costs, err := measureLayer(ctx, *rounds)
	if err != nil {
		return err
	}
	printCosts(out, "The layer alone, with a pod of the test's own", costs)
	return nil
}

// measureTheWay is what needs the lab.
func measureTheWay(ctx context.Context, out io.Writer, with load, rounds int) error {
	lab, err := openLab(ctx)
	if err != nil {
		return err
	}
	defer lab.close()
	rows, err := measureRouting(ctx, lab, with, rounds)
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

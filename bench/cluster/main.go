// Command cluster measures Magpie in the cluster of test/cluster: how fast bytes go over a long way to the API server, beside kubectl
// port-forward; how soon a session is ready; what one costs those who have nothing to do with it. It prints tables of medians
// and asserts nothing: the numbers are for docs/BENCHMARKS.md and for people.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// patience bounds all of it.
const patience = 20 * time.Minute

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
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	rounds := flags.Int("rounds", 3, "rounds of each; medians are printed")
	starts := flags.Int("starts", 7, "sessions started; medians are printed")
	length := flags.Duration("duration", 5*time.Second, "length of one measurement under load")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root, to see in the nodes when a container starts: sudo make bench-cluster")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l, err := openLab(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	for _, part := range []struct {
		name    string
		measure func() error
	}{
		{"start", func() error { return measureStarts(ctx, out, l, *starts) }},
		{"speed", func() error { return measureSpeed(ctx, out, l, *rounds) }},
		{"cost", func() error { return measureCost(ctx, out, l, *rounds, *length) }},
	} {
		if flags.NArg() > 0 && !slices.Contains(flags.Args(), part.name) {
			continue
		}
		if err := part.measure(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// mid is the median of a figure.
func mid[R any, T int | float64 | time.Duration](runs []R, figure func(R) T) T {
	var all []T
	for _, r := range runs {
		all = append(all, figure(r))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

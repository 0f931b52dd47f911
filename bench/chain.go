package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// costProgram is the layer's own: it makes one call many times and prints the median in nanoseconds.
const (
	costProgram = "layer/testdata/programs/cost.go"
	costCalls   = 500
)

// measureChain measures what a program under magpie exec pays, with the real agent at the other end of the call.
func measureChain(ctx context.Context, l *lab, rounds int) ([]cost, error) {
	program := filepath.Join(l.dir, "cost")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, costProgram).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile %s: %w: %s", costProgram, err, out)
	}
	magpie := func(argv ...string) []string {
		return within(l.home, append([]string{"bin/magpie", "exec", "--agent", l.socket(), "--target", "netns/" + l.target, "--steal", "--"}, argv...)...)
	}
	call := []string{program, "connect", directAt, strconv.Itoa(costCalls)}
	connect := cost{what: "connect(2) to a server, through the agent", unit: "µs"}
	start := cost{what: "/bin/true, with all of a session", unit: "ms"}
	for _, m := range []struct {
		into    *float64
		argv    []string
		measure func(context.Context, []string) (float64, error)
	}{
		{&connect.native, within(l.target, call...), medianOfCalls},
		{&connect.layer, magpie(call...), medianOfCalls},
		{&start.native, within(l.target, "/bin/true"), millisOfRun},
		{&start.layer, magpie("/bin/true"), millisOfRun},
	} {
		var all []float64
		for range rounds {
			n, err := m.measure(ctx, m.argv)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", strings.Join(m.argv, " "), err)
			}
			all = append(all, n)
		}
		*m.into = mid(all, func(n float64) float64 { return n })
	}
	return []cost{connect, start}, nil
}

// medianOfCalls runs the cost program and returns what it says, in microseconds.
func medianOfCalls(ctx context.Context, argv []string) (float64, error) {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return 0, err
	}
	said, _, _ := strings.Cut(string(out), " ")
	nanos, err := strconv.ParseFloat(said, 64)
	return nanos / 1000, err
}

func millisOfRun(ctx context.Context, argv []string) (float64, error) {
	began := time.Now()
	err := exec.CommandContext(ctx, argv[0], argv[1:]...).Run()
	return float64(time.Since(began).Microseconds()) / 1000, err
}

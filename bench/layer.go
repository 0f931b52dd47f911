package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
)

// cost is one thing that a program does, without the layer and under it.
type cost struct {
	what, unit    string
	native, layer float64
}

// layerRounds is how many times more often the layer's benchmarks run: they are short.
const layerRounds = 3

// measureLayer runs the benchmarks of package layer, which know how to set up a pod's network for its programs.
func measureLayer(ctx context.Context, rounds int) ([]cost, error) {
	dir, err := os.MkdirTemp("", "magpie-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	// Not go test, which would not pass on a signal.
	program := filepath.Join(dir, "layer.test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "./layer").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile the benchmarks of the layer: %w: %s", err, out)
	}
	cmd := exec.CommandContext(ctx, program, "-test.run", "^$", "-test.bench", ".", "-test.benchtime", strconv.Itoa(layerRounds*rounds)+"x")
	cmd.Dir = "layer"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endTimeout
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("benchmarks of the layer: %w: %s", err, out)
	}
	costs := parseCosts(out)
	if len(costs) == 0 {
		return nil, fmt.Errorf("benchmarks of the layer: nothing measured: %s", out)
	}
	return costs, nil
}

// costLine is like "BenchmarkStart/node/layer-2   9   61.20 ms/start".
var costLine = regexp.MustCompile(`^Benchmark(\w+?)(?:/(.+))?/(native|layer)(?:-\d+)?\s+\d+\s+([\d.]+) (\S+)/(\S+)`)

// parseCosts reads what go test says, in its order.
func parseCosts(out []byte) (costs []cost) {
	at := map[string]int{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		m := costLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		what := strings.TrimSpace(strings.ToLower(m[1]) + " " + strings.ReplaceAll(m[2], "_", " "))
		what = strings.TrimSuffix(strings.TrimPrefix(what, "calls "), " -")
		i, known := at[what]
		if !known {
			i = len(costs)
			at[what] = i
			costs = append(costs, cost{what: what, unit: m[5]})
		}
		n, _ := strconv.ParseFloat(m[4], 64)
		if m[3] == "native" {
			costs[i].native = n
		} else {
			costs[i].layer = n
		}
	}
	return costs
}

func printCosts(out io.Writer, title string, costs []cost) {
	fmt.Fprintf(out, "\n%s\n\n", title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "what\tin the pod\tunder the layer\tmore\t")
	for _, c := range costs {
		fmt.Fprintf(w, "%s\t%.1f %s\t%.1f %s\t%.1f %s\t\n", c.what, c.native, c.unit, c.layer, c.unit, c.layer-c.native, c.unit)
	}
	w.Flush()
}

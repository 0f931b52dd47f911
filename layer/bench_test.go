package layer_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"
)

var cost = program{name: "cost", debian: "golang-go", compile: []string{"go", "build", "-o", "SCRATCH/cost", "cost.go"}, args: []string{"SCRATCH/cost"}}

// ways are the two ways to run a program: in the pod itself, and here under the layer.
var ways = []struct {
	name  string
	start func(*world, testing.TB, []string) *local
}{
	{"native", func(w *world, tb testing.TB, argv []string) *local { return w.mustStartInPod(tb, argv) }},
	{"layer", func(w *world, tb testing.TB, argv []string) *local { return w.mustStart(tb, argv) }},
}

// callsPerRun is what a run takes the median of; more connections than this would use up the pod's ports.
const callsPerRun = "500"

// BenchmarkCalls shows the median of the medians of runs. Run it with -benchtime=9x.
func BenchmarkCalls(b *testing.B) {
	w := mustWorld(b)
	for _, what := range [][]string{
		{"connect", webV4 + ":80"}, {"open", "/etc/passwd"}, {"open", "/etc/hosts"}, {"stat", "/etc/passwd"},
		{"unix", "-"}, {"datagram", webV4 + ":7"},
	} {
		for _, way := range ways {
			b.Run(what[0]+" "+what[1]+"/"+way.name, func(b *testing.B) {
				var medians []float64
				for b.Loop() {
					l := way.start(w, b, cost.command(b, what[0], what[1], callsPerRun))
					medians = append(medians, mustMedian(b, l.mustLine(b)))
					l.mustEnd(b, 0)
				}
				report(b, medians, "µs/call")
			})
		}
	}
}

// BenchmarkPod shows what of a connect is the price of the test's own pod, which makes a thread for each socket.
func BenchmarkPod(b *testing.B) {
	w := mustWorld(b)
	pod := brokeredPod{w.mustBroker(b)}
	var took []float64
	for b.Loop() {
		started := time.Now()
		c, err := pod.Dial(b.Context(), "tcp", netip.MustParseAddrPort(webV4+":80"))
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, float64(time.Since(started).Nanoseconds())/1000)
		c.Close()
	}
	report(b, took, "µs/dial")
}

// BenchmarkAccept shows what a client of the pod waits for: to connect, and to get the first byte of a server.
func BenchmarkAccept(b *testing.B) {
	w := mustWorld(b)
	for _, way := range ways {
		b.Run(way.name, func(b *testing.B) {
			l := way.start(w, b, cost.command(b, "serve", "8080"))
			l.expect(b, "listening")
			var medians []float64
			for b.Loop() {
				client := w.mustStartBeside(b, cost.command(b, "ask", net.JoinHostPort(podV4, "8080"), callsPerRun))
				medians = append(medians, mustMedian(b, client.mustLine(b)))
				client.mustEnd(b, 0)
			}
			report(b, medians, "µs/connection")
		})
	}
}

// BenchmarkStart shows how long programs take from their start to their end.
func BenchmarkStart(b *testing.B) {
	w := mustWorld(b)
	for _, p := range []program{
		{name: "true", debian: "coreutils", args: []string{"/bin/true"}},
		{name: "python3", debian: "python3", args: []string{"/usr/bin/python3", "-c", "import json, socket, http.client"}},
		{name: "node", debian: "nodejs", args: []string{"node", "-e", "require('http')"}},
		{name: "java", debian: "openjdk-17-jre-headless", args: []string{"java", "-version"}},
	} {
		for _, way := range ways {
			b.Run(p.name+"/"+way.name, func(b *testing.B) {
				var took []float64
				for b.Loop() {
					started := time.Now()
					way.start(w, b, p.command(b)).mustEnd(b, 0)
					took = append(took, float64(time.Since(started).Microseconds())/1000)
				}
				report(b, took, "ms/start")
			})
		}
	}
}

// mustMedian reads a line of cost, in microseconds.
func mustMedian(tb testing.TB, line string) float64 {
	tb.Helper()
	var median, p99 int64
	if _, err := fmt.Sscan(line, &median, &p99); err != nil {
		tb.Fatalf("%s: %v", strconv.Quote(line), err)
	}
	return float64(median) / 1000
}

func report(b *testing.B, samples []float64, unit string) {
	slices.Sort(samples)
	b.ReportMetric(samples[len(samples)/2], unit)
	b.ReportMetric(0, "ns/op")
}

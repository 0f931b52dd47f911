package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// load is what wrk or h2load puts on a server.
type load struct {
	connections int
	streams     int // of each connection at the same time: HTTP/2 if there are any
	requests    int // in all; 0 is as many as there is time for
	length      time.Duration
	header      string
}

// result is one measurement, or a median of several.
type result struct {
	requests  int
	perSecond float64
	p50, p99  time.Duration // from wrk
	mean      time.Duration // from h2load, as the next
	most      time.Duration
	proxies   time.Duration // CPU a request of what stands between the load and the server
	all       time.Duration // the same with the server and the load
	errors    int
}

// A way leads from the load to an answer.
type way struct {
	name, at, header string

	server  int   // process that answers
	between []int // processes through which requests go, with their children
}

// ways are those of HTTP/1.
func (l *lab) ways() []way {
	app, agent := l.original.Process.Pid, l.agent.Process.Pid
	return []way{
		{"direct", directAt, "", app, nil},
		{"Magpie, passed", original, "", app, []int{agent}},
		{"HAProxy", haproxyAt, "", app, []int{l.haproxy.Process.Pid}},
		{"nginx", nginxAt, "", app, []int{l.nginx.Process.Pid}},
		{"Magpie, stolen", original, ours, l.local, []int{agent, l.session.Process.Pid}},
	}
}

type measured struct {
	way
	result
}

// measureWays measures all ways in turn, several times over, so that what else the machine does hits all alike.
func measureWays(ctx context.Context, l *lab, ways []way, with load, rounds int) ([]measured, error) {
	runs := make([][]result, len(ways))
	for range rounds {
		for i, w := range ways {
			with.header = w.header
			r, err := l.measure(ctx, w, with)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			runs[i] = append(runs[i], r)
		}
	}
	var rows []measured
	for i, w := range ways {
		rows = append(rows, measured{w, median(runs[i])})
	}
	return rows, nil
}

// measure runs one measurement.
func (l *lab) measure(ctx context.Context, w way, with load) (result, error) {
	server, both := w.spent()
	run, parse := l.wrk, parseWrk
	if with.streams > 0 {
		run, parse = l.h2load, parseH2load
	}
	out, spent, err := run(ctx, w.at, with)
	if err != nil {
		return result{}, err
	}
	r, err := parse(out)
	if err != nil {
		return r, err
	}
	serverNow, bothNow := w.spent()
	server, both = serverNow-server, bothNow-both
	n := time.Duration(max(r.requests, 1))
	r.proxies, r.all = (both-server)/n, (both+spent)/n
	return r, nil
}

// spent is the CPU time of the server, and of all processes of the way. A server under the layer is a child of one of them.
func (w way) spent() (server, both time.Duration) {
	return cpuOf(w.server), cpuOf(append(w.between[:len(w.between):len(w.between)], w.server)...)
}

// wrk puts load on a server and returns what wrk says, and the CPU time that it took.
func (l *lab) wrk(ctx context.Context, at string, with load) (out string, spent time.Duration, err error) {
	wrk := []string{"wrk", "-t1", "-c", strconv.Itoa(with.connections), "-d", strconv.Itoa(int(with.length.Seconds())) + "s", "--latency", "http://" + at + "/"}
	if with.header != "" {
		wrk = append(wrk, "-H", with.header)
	}
	return l.load(ctx, with.length+loadTimeout, wrk...)
}

// loadTimeout is what a load may take beyond its length.
const loadTimeout = 30 * time.Second

// load runs a program that puts load on a server.
func (l *lab) load(ctx context.Context, timeout time.Duration, program ...string) (out string, spent time.Duration, err error) {
	argv := within(l.client, endCPU.pin(program...)...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	said, err := cmd.CombinedOutput()
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w: %s", program[0], err, said)
	}
	return string(said), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

var (
	requestsIn = regexp.MustCompile(`(\d+) requests in [\d.]+`)
	perSecond  = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	quantile   = regexp.MustCompile(`(?m)^\s+(50|99)%\s+(\S+)$`)
	troubles   = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)|Non-2xx or 3xx responses: (\d+)`)
)

// parseWrk reads what wrk --latency says.
func parseWrk(out string) (r result, err error) {
	n := requestsIn.FindStringSubmatch(out)
	s := perSecond.FindStringSubmatch(out)
	if n == nil || s == nil {
		return r, fmt.Errorf("wrk said: %s", out)
	}
	r.requests, _ = strconv.Atoi(n[1])
	r.perSecond, _ = strconv.ParseFloat(s[1], 64)
	for _, q := range quantile.FindAllStringSubmatch(out, -1) {
		d, err := time.ParseDuration(q[2])
		if err != nil {
			return r, fmt.Errorf("wrk said: %w", err)
		}
		if q[1] == "50" {
			r.p50 = d
		} else {
			r.p99 = d
		}
	}
	for _, t := range troubles.FindAllStringSubmatch(out, -1) {
		for _, field := range t[1:] {
			n, _ := strconv.Atoi(field)
			r.errors += n
		}
	}
	return r, nil
}

// median takes the median of each figure by itself, and the sum of errors.
func median(runs []result) (m result) {
	m.perSecond = mid(runs, func(r result) float64 { return r.perSecond })
	m.p50 = mid(runs, func(r result) time.Duration { return r.p50 })
	m.p99 = mid(runs, func(r result) time.Duration { return r.p99 })
	m.mean = mid(runs, func(r result) time.Duration { return r.mean })
	m.most = mid(runs, func(r result) time.Duration { return r.most })
	m.proxies = mid(runs, func(r result) time.Duration { return r.proxies })
	m.all = mid(runs, func(r result) time.Duration { return r.all })
	for _, r := range runs {
		m.requests += r.requests
		m.errors += r.errors
	}
	return m
}

func mid[R any, T float64 | time.Duration](runs []R, figure func(R) T) T {
	var all []T
	for _, r := range runs {
		all = append(all, figure(r))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func printRouting(out io.Writer, with load, rounds int, rows []measured) {
	var haproxy measured
	for _, r := range rows {
		if r.name == "HAProxy" {
			haproxy = r
		}
	}
	fmt.Fprintf(out, "\nSmall requests over %d keep-alive connections, one thread each, medians of %d times %v\n\n", with.connections, rounds, with.length)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "way\treq/s\tof HAProxy\tp50\tp99\tCPU between\tCPU in all\tof HAProxy\terrors\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%v\t%v\t%s\t%s\t%.2f\t%d\t\n", r.name, r.perSecond, r.perSecond/haproxy.perSecond,
			r.p50, r.p99, micros(r.proxies), micros(r.all), float64(r.all)/float64(haproxy.all), r.errors)
	}
	w.Flush()
}

func micros(d time.Duration) string {
	return fmt.Sprintf("%.1f µs", float64(d)/float64(time.Microsecond))
}

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	// amount goes through one connection, one way; a tenth where only a plain stream carries it.
	amount = 40_000_000
	few    = 10

	// asked is how many small requests are timed.
	asked = 15

	wide   = 4 << 20  // of a connection between two machines of today
	narrow = 64 << 10 // of what allows each connection no more: many proxies, and a stream of a port-forward
)

// A path is a way to the API server.
type path struct {
	trip   time.Duration
	window int
}

var paths = []path{{20 * time.Millisecond, wide}, {20 * time.Millisecond, narrow}, {80 * time.Millisecond, wide}, {80 * time.Millisecond, narrow}}

// speed is what a way carries: bits per second to the developer and from him, and the time to the first byte of an answer.
type speed struct{ down, up, fresh, kept float64 }

// measureSpeed measures three ways over each path: the plain stream of kubectl port-forward to the shop; requests to the shop by a
// command under magpie exec; and stolen requests, from a pod to a server of the developer.
func measureSpeed(ctx context.Context, out io.Writer, l *lab, rounds int) error {
	fmt.Fprintf(out, "\nThrough one connection, %d MB at a time (by kubectl a tenth), medians of %d; first bytes of small answers, medians of %d\n\n", amount/1_000_000, rounds, asked)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "round trip\twindow\tway\tto the developer\tfrom him\tfirst byte\ton a kept connection\t")
	for _, p := range paths {
		for _, way := range []struct {
			name    string
			measure func(context.Context, *lab, []string, int) (speed, error)
		}{{"kubectl port-forward", plain}, {"magpie exec, outgoing", outgoing}, {"magpie exec, stolen", stolen}} {
			s, err := over(ctx, l, p, func(flags []string) (speed, error) { return way.measure(ctx, l, flags, rounds) })
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			fmt.Fprintf(w, "%v\t%s\t%s\t%.0f Mbit/s\t%.0f Mbit/s\t%s\t%s\t\n", p.trip, size(p.window), way.name, s.down/1e6, s.up/1e6, millis(s.fresh), millis(s.kept))
		}
	}
	return w.Flush()
}

// over opens a path, and gives the flags that lead kubectl and magpie there.
func over(ctx context.Context, l *lab, p path, measure func(flags []string) (speed, error)) (speed, error) {
	server, err := l.kubectl(ctx, "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
	if err != nil {
		return speed{}, err
	}
	at, err := url.Parse(server)
	if err != nil {
		return speed{}, err
	}
	r, err := newRelay(at.Host, p.trip, p.window)
	if err != nil {
		return speed{}, err
	}
	defer r.Close()
	return measure([]string{"--server", "https://" + r.Addr(), "--tls-server-name", at.Hostname()})
}

// script is what a developer's shell does with curl: figures by name. In $1 is the URL, in $2 the amount, in $3 the rounds, in $4 how often.
const script = `set -eu
curl -sS -o /dev/null "$1/"
for i in $(seq "$3"); do
	curl -sS -o /dev/null -w 'down %{speed_download}\n' "$1/bytes?n=$2"
	head -c "$2" /dev/zero | curl -sS -o /dev/null -H Expect: -X POST -T - -w 'up %{speed_upload}\n' "$1/"
done
for i in $(seq "$4"); do curl -sS -o /dev/null -w 'fresh %{time_starttransfer}\n' "$1/"; done
kept=
for i in $(seq "$4"); do kept="$kept $1/ -o /dev/null"; done
curl -sS -o /dev/null "$1/" -o /dev/null $kept -w '%{num_connects} %{time_starttransfer}\n' | sed -n 's/^0 /kept /p'
`

func shell(url string, amount, rounds int) []string {
	return []string{"sh", "-c", script, "sh", url, strconv.Itoa(amount), strconv.Itoa(rounds), strconv.Itoa(asked)}
}

func plain(ctx context.Context, l *lab, flags []string, rounds int) (speed, error) {
	forward := exec.CommandContext(ctx, l.kubectlBin, append(flags, "-n", l.namespace, "port-forward", "deploy/shop", ":8080")...)
	said, err := forward.StdoutPipe()
	if err != nil {
		return speed{}, err
	}
	if err := forward.Start(); err != nil {
		return speed{}, err
	}
	defer func() {
		_ = forward.Process.Kill()
		_ = forward.Wait()
	}()
	line, err := bufio.NewReader(said).ReadString('\n')
	at, _, ok := strings.Cut(strings.TrimPrefix(line, "Forwarding from "), " ")
	if err != nil || !ok {
		return speed{}, fmt.Errorf("kubectl port-forward said %q: %w", line, err)
	}
	argv := shell("http://"+at, amount/few, rounds)
	figures, err := output(exec.CommandContext(ctx, argv[0], argv[1:]...))
	if err != nil {
		return speed{}, err
	}
	return parseSpeed(figures), nil
}

func outgoing(ctx context.Context, l *lab, flags []string, rounds int) (speed, error) {
	figures, err := output(l.exec(ctx, flags, shell("http://shop", amount, rounds)...))
	if err != nil {
		return speed{}, err
	}
	return parseSpeed(figures), l.noAgent(ctx)
}

// parseSpeed takes the median of each figure.
func parseSpeed(said string) speed {
	figures := map[string][]float64{}
	for line := range strings.Lines(said) {
		if name, number, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			n, _ := strconv.ParseFloat(number, 64)
			figures[name] = append(figures[name], n)
		}
	}
	median := func(name string) float64 {
		if len(figures[name]) == 0 {
			return 0
		}
		return mid(figures[name], func(n float64) float64 { return n })
	}
	return speed{8 * median("down"), 8 * median("up"), median("fresh"), median("kept")}
}

func stolen(ctx context.Context, l *lab, flags []string, rounds int) (speed, error) {
	session, err := start(l.steal(ctx, "me", flags...))
	if err != nil {
		return speed{}, err
	}
	defer session.end()
	if _, err := session.ready(); err != nil {
		return speed{}, err
	}
	var downs, ups, fresh []called
	for range rounds {
		for _, c := range []struct {
			call
			all *[]called
		}{
			{call{url: "http://shop/", body: amount, most: 1}, &downs},
			{call{url: "http://shop/bytes?n=" + strconv.Itoa(amount), most: 1}, &ups},
		} {
			c.header = "x-user: me"
			r, err := l.call(ctx, c.call)
			if err != nil {
				return speed{}, err
			}
			*c.all = append(*c.all, r)
		}
	}
	for range asked {
		r, err := l.call(ctx, call{url: "http://shop/", header: "x-user: me", most: 1})
		if err != nil {
			return speed{}, err
		}
		fresh = append(fresh, r)
	}
	kept, err := l.call(ctx, call{url: "http://shop/", header: "x-user: me", most: 2 * asked})
	if err != nil {
		return speed{}, err
	}
	perSecond := func(r called) float64 { return 8 * amount / r.Took.Seconds() }
	s := speed{mid(downs, perSecond), mid(ups, perSecond), mid(fresh, func(r called) float64 { return r.P50.Seconds() }), kept.P50.Seconds()}
	session.end()
	return s, l.noAgent(ctx)
}

func size(n int) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

func millis(seconds float64) string { return fmt.Sprintf("%.1f ms", seconds*1000) }

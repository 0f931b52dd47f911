package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// h2Loads are the loads of HTTP/2: as browsers and pods do it, and as one busy channel of gRPC does.
var h2Loads = []load{{connections: 64, streams: 1}, {connections: 16, streams: 32}}

// manyStreams are ten thousand at the same time.
var manyStreams = load{connections: 100, streams: 100, requests: 200_000}

// measureH2 measures with two servers, because what is in the way costs more or less as the server writes its frames.
func measureH2(ctx context.Context, out io.Writer, length time.Duration, rounds int) error {
	for _, server := range []h2Server{nghttpd, netHTTP} {
		if err := measureH2With(ctx, out, server, length, rounds); err != nil {
			return fmt.Errorf("%s: %w", server.name, err)
		}
	}
	return nil
}

func measureH2With(ctx context.Context, out io.Writer, server h2Server, length time.Duration, rounds int) error {
	l, err := openH2Lab(ctx, server)
	if err != nil {
		return err
	}
	defer l.close()
	for _, with := range h2Loads {
		with.length = length
		rows, err := measureWays(ctx, l, l.h2Ways(), with, rounds)
		if err != nil {
			return err
		}
		printH2(out, server.name, with, rounds, rows)
	}
	if err := l.measureMany(ctx, out); err != nil || server.name != netHTTP.name {
		return err
	}
	return l.measureStalled(ctx, out, length, rounds)
}

// h2Ways are those of HTTP/2.
func (l *lab) h2Ways() []way {
	app, direct, agent := l.original.Process.Pid, l.direct.Process.Pid, l.agent.Process.Pid
	return []way{
		{"direct", directAt, "", direct, nil},
		{"Magpie, passed", original, "", app, []int{agent}},
		{"HAProxy", haproxyAt, "", direct, []int{l.haproxy.Process.Pid}},
		{"nghttpx", nghttpxAt, "", direct, []int{l.nghttpx.Process.Pid}},
		{"Magpie, stolen", original, ours, l.local, []int{agent, l.session.Process.Pid}},
	}
}

func printH2(out io.Writer, server string, with load, rounds int, rows []measured) {
	rivals := map[string]result{}
	for _, r := range rows {
		rivals[r.name] = r.result
	}
	fmt.Fprintf(out, "\nHTTP/2, small requests to %s over %d connections with %d streams each, one thread each, medians of %d times %v\n\n",
		server, with.connections, with.streams, rounds, with.length)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "way\treq/s\tof HAProxy\tof nghttpx\tmean\tlongest\tCPU between\tCPU in all\tof HAProxy\terrors\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%v\t%v\t%s\t%s\t%.2f\t%d\t\n", r.name, r.perSecond,
			r.perSecond/rivals["HAProxy"].perSecond, r.perSecond/rivals["nghttpx"].perSecond,
			r.mean, r.most, micros(r.proxies), micros(r.all), float64(r.all)/float64(rivals["HAProxy"].all), r.errors)
	}
	w.Flush()
}

// measureMany puts as many streams on Magpie at the same time as manyStreams says.
func (l *lab) measureMany(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "\nTen thousand streams at the same time, %d on each of %d connections, %d requests in all; memory (RSS)\n\n",
		manyStreams.streams, manyStreams.connections, manyStreams.requests)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "way\treq/s\terrors\tagent before\tat the most\tmagpie exec before\tat the most\t")
	for _, way := range l.h2Ways() {
		if way.at != original {
			continue
		}
		with := manyStreams
		with.header = way.header
		var r result
		before, err := l.memory()
		if err != nil {
			return err
		}
		most, err := l.most(way.name, func() (err error) {
			r, err = l.measure(ctx, way, with)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%.0f\t%d\t%s MB\t%s MB\t%s MB\t%s MB\t\n", way.name, r.perSecond, r.errors,
			megabytes(before.agent), megabytes(most.agent), megabytes(before.client), megabytes(most.client))
	}
	return w.Flush()
}

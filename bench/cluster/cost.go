package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// callers are the keep-alive connections of the load, each with one request at a time.
const callers = 16

// measureCost measures requests from a pod to another without a session, and with one whose filter does not match them, in turn.
func measureCost(ctx context.Context, out io.Writer, l *lab, rounds int, length time.Duration) error {
	var direct, passed []called
	load := call{url: "http://shop/", workers: callers, length: length}
	for range rounds {
		r, err := l.call(ctx, load)
		if err != nil {
			return err
		}
		direct = append(direct, r)
		if r, err = l.passed(ctx, load); err != nil {
			return err
		}
		passed = append(passed, r)
	}
	fmt.Fprintf(out, "\nSmall requests from pod to pod over %d keep-alive connections, medians of %d times %v\n\n", callers, rounds, length)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "way\treq/s\tof direct\tp50\tp99\t")
	base := mid(direct, called.perSecond)
	for _, row := range []struct {
		way string
		all []called
	}{{"direct", direct}, {"passed by an agent", passed}} {
		perSecond := mid(row.all, called.perSecond)
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%v\t%v\t\n", row.way, perSecond, perSecond/base,
			mid(row.all, func(r called) time.Duration { return r.P50 }).Round(time.Microsecond), mid(row.all, func(r called) time.Duration { return r.P99 }).Round(time.Microsecond))
	}
	return w.Flush()
}

func (l *lab) passed(ctx context.Context, load call) (called, error) {
	s, err := start(l.steal(ctx, "me"))
	if err != nil {
		return called{}, err
	}
	defer s.end()
	if _, err := s.ready(); err != nil {
		return called{}, err
	}
	r, err := l.call(ctx, load)
	if err != nil {
		return r, err
	}
	s.end()
	return r, l.noAgent(ctx)
}

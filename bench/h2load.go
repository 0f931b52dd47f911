package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// h2load puts load on a server that speaks HTTP/2 and returns what h2load says, and the CPU time that it took.
func (l *lab) h2load(ctx context.Context, at string, with load) (out string, spent time.Duration, err error) {
	h2load := []string{"h2load", "-t1", "-c", strconv.Itoa(with.connections), "-m", strconv.Itoa(with.streams), "http://" + at + "/"}
	if with.requests > 0 {
		h2load = append(h2load, "-n", strconv.Itoa(with.requests))
	} else {
		h2load = append(h2load, "-D", strconv.Itoa(int(with.length.Seconds())))
	}
	if with.header != "" {
		h2load = append(h2load, "-H", with.header)
	}
	return l.load(ctx, with.length+loadTimeout, h2load...)
}

var (
	h2Rate     = regexp.MustCompile(`finished in \S+, ([\d.]+) req/s`)
	h2Requests = regexp.MustCompile(`requests: \d+ total, \d+ started, (\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
	h2Others   = regexp.MustCompile(`status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx`)
	h2Times    = regexp.MustCompile(`time for request:\s+\S+\s+(\S+)\s+(\S+)`)
)

// parseH2load reads what h2load says.
func parseH2load(out string) (r result, err error) {
	rate, requests := h2Rate.FindStringSubmatch(out), h2Requests.FindStringSubmatch(out)
	others, times := h2Others.FindStringSubmatch(out), h2Times.FindStringSubmatch(out)
	if rate == nil || requests == nil || others == nil || times == nil {
		return r, fmt.Errorf("h2load said: %s", out)
	}
	r.perSecond, _ = strconv.ParseFloat(rate[1], 64)
	r.requests, _ = strconv.Atoi(requests[1])
	for _, field := range append(requests[2:], others[1:]...) {
		n, _ := strconv.Atoi(field)
		r.errors += n
	}
	for i, into := range []*time.Duration{&r.most, &r.mean} {
		if *into, err = time.ParseDuration(times[i+1]); err != nil {
			return r, fmt.Errorf("h2load said: %w", err)
		}
	}
	return r, nil
}

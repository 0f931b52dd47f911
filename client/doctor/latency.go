package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A measurement takes this many samples, or as many as fit into this time: enough for a p99 that means something on a
// quick way, and no wait on a slow one.
const (
	maxSamples = 100
	minSamples = 5
	maxTime    = 2 * time.Second
)

// times are how long the same thing took, shortest first.
type times []time.Duration

// measure does a thing again and again.
func measure(ctx context.Context, once func(context.Context) error) (times, error) {
	var all times
	for start := time.Now(); len(all) < maxSamples && (len(all) < minSamples || time.Since(start) < maxTime); {
		ctx, cancel := context.WithTimeout(ctx, patience)
		began := time.Now()
		err := once(ctx)
		cancel()
		if err != nil {
			return nil, err
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	return all, nil
}

func (t times) String() string {
	var sum time.Duration
	for _, d := range t {
		sum += d
	}
	avg := sum / time.Duration(len(t))
	p99 := t[(len(t)*99+99)/100-1]
	return fmt.Sprintf("min %s, avg %s, p99 %s of %d round trips", millis(t[0]), millis(avg), millis(p99), len(t))
}

// millis is one unit for all, so that they compare at a glance.
func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

package doctor

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAMeasurementEndsEarlyOnASlowWay(t *testing.T) {
	for _, c := range []struct {
		each    time.Duration
		samples int
	}{{time.Millisecond, maxSamples}, {100 * time.Millisecond, 20}, {time.Second, minSamples}} {
		synctest.Test(t, func(t *testing.T) {
			got, err := measure(t.Context(), func(context.Context) error { time.Sleep(c.each); return nil })
			if err != nil || len(got) != c.samples {
				t.Errorf("%v each: %d samples, %v; want %d", c.each, len(got), err, c.samples)
			}
		})
	}
}

func TestAMeasurementGivesUpAtTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	if _, err := measure(t.Context(), func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestTimesAreMinimumAverageAndNinetyNinth(t *testing.T) {
	var hundred times
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1)*time.Millisecond)
	}
	for _, c := range []struct {
		times times
		want  string
	}{
		{times{2 * time.Millisecond}, "min 2.0 ms, avg 2.0 ms, p99 2.0 ms of 1 round trips"},
		{times{time.Millisecond, 3 * time.Millisecond}, "min 1.0 ms, avg 2.0 ms, p99 3.0 ms of 2 round trips"},
		{hundred, "min 1.0 ms, avg 50.5 ms, p99 99.0 ms of 100 round trips"},
	} {
		if got := c.times.String(); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

//go:build !race

package filters_test

import "testing"

// The race detector makes sync.Pool forget at random, ours and regexp's.
func TestMatchesDoesNotAllocate(t *testing.T) {
	r := typical()
	for _, m := range measured {
		f := mustParse(t, m.filter)
		f.Matches(r) // fills its buffer
		if n := testing.AllocsPerRun(1000, func() { f.Matches(r) }); n != 0 {
			t.Errorf("%s: %v allocations", m.filter, n)
		}
	}
}

package client

import (
	"context"
	"slices"
	"sync"
)

// field is a ground whose places a test changes.
type field struct {
	mu      sync.Mutex
	now     []place
	changed chan struct{}
	fallow  error // why there will never be a place again
}

func newField(spots ...*spot) *field {
	f := &field{changed: make(chan struct{})}
	f.set(nil, spots...)
	return f
}

func (f *field) set(fallow error, spots ...*spot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now, f.fallow = nil, fallow
	for _, p := range spots {
		f.now = append(f.now, p)
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *field) state() (now []place, changed chan struct{}, fallow error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.now), f.changed, f.fallow
}

func (f *field) places(context.Context) ([]place, error) {
	now, _, fallow := f.state()
	return now, fallow
}

func (f *field) watch(ctx context.Context, seen func([]place)) error {
	for {
		now, changed, fallow := f.state()
		if fallow != nil {
			return fallow
		}
		seen(now)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/agent/steal"
	"github.com/magpie-k8s/magpie/agent/target"
	"github.com/magpie-k8s/magpie/internal/testnet"
)

// A session may end between any two steps of its claim. The port is free then.
func TestAClaimThatIsReleasedWhileItIsMadeLeavesNothing(t *testing.T) {
	p := mustPorts(t)
	s := newSession(nil, 1)
	for i := range 5000 {
		h := mustHold(t, s, 8080)
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() {
			defer close(over)
			cancel()
			for !p.booked(h) {
			}
			_ = p.release(h)
		}()
		_, _ = p.claim(ctx, h) // now and then it is faster
		<-over
		s.letGo(h.id)

		next := mustHold(t, s, 8080)
		if _, err := p.claim(t.Context(), next); err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
		if err := p.release(next); err != nil {
			t.Fatal(err)
		}
		s.letGo(next.id)
	}
}

func (p *ports) booked(h *holding) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return h.remove != nil
}

// mustPorts returns the ports of a namespace of its own.
func mustPorts(tb testing.TB) *ports {
	tb.Helper()
	at, err := target.Find("netns/" + testnet.Lone(tb).Name)
	if err != nil {
		tb.Fatal(err)
	}
	r, err := steal.Open(at.NS, "", steal.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	p := newPorts(at, r, time.Minute)
	accepting := make(chan error, 1)
	go func() { accepting <- p.accept(context.Background()) }()
	tb.Cleanup(func() {
		if err := p.stop(); err != nil {
			tb.Error(err)
		}
		if err := errors.Join(<-accepting, at.Close()); err != nil {
			tb.Error(err)
		}
	})
	return p
}

func mustHold(tb testing.TB, s *session, port uint16) *holding {
	tb.Helper()
	h, err := s.hold(wish{port: port})
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

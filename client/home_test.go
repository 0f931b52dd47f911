package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// neighbour asks, from the session's home, who is next to it. The addresses are the same everywhere.
func neighbour(ctx context.Context, s *Session, any *spot) (string, error) {
	c, err := s.Dial(ctx, "tcp", netip.AddrPortFrom(any.net.Client.Addr4, 80))
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

func mustBeAt(tb testing.TB, s *Session, home *spot) {
	tb.Helper()
	if got, err := neighbour(tb.Context(), s, home); err != nil || !strings.HasSuffix(got, "neighbour of "+home.name) {
		tb.Errorf("home is not %s: %q, %v", home.name, got, err)
	}
	if _, err := s.Environment(tb.Context()); err != nil {
		tb.Error(err)
	}
	if names, err := s.Names(tb.Context()); err != nil || len(names.ResolvConf) == 0 {
		tb.Errorf("%+v, %v", names, err)
	}
}

func TestAnotherReplicaIsHomeWhenTheFirstOneGoes(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	s, said := begin(t, newField(a, b), "./shop")
	mustBeAt(t, s, a)
	a.kill(a.agent)
	mustBeAt(t, s, b)
	said.has(t, "home", "b: ")
	a.start(t)
	said.has(t, "back", "a: ")
	mustBeAt(t, s, b) // nothing is moved without need
}

func TestADialWaitsForAnAgent(t *testing.T) {
	t.Parallel()
	a := newSpot(t, "a")
	s, said := begin(t, newField(a), "./shop")
	a.kill(a.agent)
	said.has(t, "lost", "a: ")
	dialled := make(chan error, 1)
	go func() {
		got, err := neighbour(t.Context(), s, a)
		if err == nil && !strings.HasSuffix(got, "neighbour of a") {
			err = fmt.Errorf("got %q", got)
		}
		dialled <- err
	}()
	a.start(t)
	if err := <-dialled; err != nil {
		t.Error(err)
	}
}

func TestADialWithoutAnAgentSaysThatTheNetworkIsUnreachable(t *testing.T) {
	t.Parallel()
	a := newSpot(t, "a")
	s, _ := begin(t, newField(a), "./shop")
	a.kill(a.agent)
	began := time.Now()
	if _, err := neighbour(t.Context(), s, a); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took < homeless-time.Second || took > homeless+2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestARefusedDialIsNotTriedElsewhere(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	s, _ := begin(t, newField(a, b), "./shop")
	_, err := s.Dial(t.Context(), "tcp", netip.AddrPortFrom(a.net.Client.Addr4, 81))
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
}

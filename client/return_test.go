package client

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestWhoComesBackTakesItsOwnPlaceAgain(t *testing.T) {
	t.Parallel()
	a := newRemoteSpot(t, "a")
	s, said := begin(t, newField(a), "./shop")
	claim(t, s, "local")
	a.must(t, "x-user: me", "local")
	before := mustFindOne(t, a)
	a.cut(t)
	// The agent waits for a byte on the old carrier for 15 s. It must not send requests there meanwhile.
	said.has(t, "back", "a: after ")
	a.must(t, "x-user: me", "local")
	if strings.Contains(said.String(), "refused") {
		t.Error("it stood in its own way")
	}
	if after := mustFindOne(t, a); after.Name != before.Name || !after.Since.Equal(before.Since) || len(after.Holdings) != 1 {
		t.Errorf("was %+v, is %+v", before, after)
	}
	mustBeAt(t, s, a)
}

func mustFindOne(tb testing.TB, at *spot) Running {
	tb.Helper()
	running, err := Sessions(tb.Context(), at.pipe(tb))
	if err != nil || len(running) != 1 {
		tb.Fatalf("%+v, %v", running, err)
	}
	return running[0]
}

func TestWhoWasStoppedWhileAwayDoesNotComeBack(t *testing.T) {
	t.Parallel()
	a := newRemoteSpot(t, "a")
	s, _ := begin(t, newField(a), "./shop")
	claim(t, s, "local")
	a.shut.Store(true)
	a.cut(t)
	eventually(t, func() error {
		if n := s.Replicas(); n > 0 {
			return fmt.Errorf("%d links stand", n)
		}
		return nil
	})
	if n, err := Stop(t.Context(), a.pipe(t), s.ID()); n != 1 || err != nil {
		t.Fatalf("stopped %d, %v", n, err)
	}
	a.shut.Store(false)
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("the session goes on")
	}
	if err := s.Err(); err == nil || !strings.HasPrefix(err.Error(), "stopped by ") {
		t.Errorf("ended with %v", err)
	}
	a.must(t, "x-user: me", "original")
}

func TestADialWhoseLinkBreaksIsMadeAgain(t *testing.T) {
	t.Parallel()
	a, b := newRemoteSpot(t, "a"), newRemoteSpot(t, "b")
	s, _ := begin(t, newField(a, b), "./shop")
	// Nobody answers there: the dial hangs in the target until it is cut off.
	dialled := make(chan error, 1)
	go func() {
		c, err := s.Dial(t.Context(), "tcp", netip.AddrPortFrom(a.net.Client.Addr4, 80))
		if err == nil {
			c.Close()
		}
		dialled <- err
	}()
	a.cut(t)
	if err := <-dialled; err != nil {
		t.Error(err)
	}
}

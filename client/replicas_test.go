package client

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestEveryReplicaIsClaimed(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	s, _ := begin(t, newField(a, b), "./shop")
	c := claim(t, s, "local")
	if c.Replicas() != 2 || s.Replicas() != 2 {
		t.Errorf("claimed on %d of %d replicas", c.Replicas(), s.Replicas())
	}
	for _, p := range []*spot{a, b} {
		p.must(t, "x-user: me", "local")
		p.must(t, "x-user: you", "original")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	a.must(t, "x-user: me", "original")
	b.must(t, "x-user: me", "original")
}

func TestCloseReleasesEverywhereBeforeItReturns(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	for range 5 {
		s, _ := begin(t, newField(a, b), "./shop")
		claim(t, s, "local")
		a.must(t, "x-user: me", "local")
		s.Close()
		a.must(t, "x-user: me", "original")
		b.must(t, "x-user: me", "original")
	}
}

func TestAReplicaThatComesLaterIsClaimedWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	f := newField(a)
	s, said := begin(t, f, "./shop")
	claim(t, s, "local")
	came := time.Now()
	f.set(nil, a, b)
	b.expect(t, "local")
	if took := time.Since(came); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	said.has(t, "replica", "b: the port is claimed there")
}

// TestAReplicaIsPreparedBeforeItIsReady has one whose agent is there long before its requests may be claimed: a claim
// would answer the probe for which the replica waits.
func TestAReplicaIsPreparedBeforeItIsReady(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	b.prepared = make(chan struct{})
	f := newField(a)
	s, said := begin(t, f, "./shop")
	claim(t, s, "local")
	f.set(nil, a, b)
	eventually(t, func() error {
		if b.sessions(t) == 0 {
			return errors.New("no session on b")
		}
		return nil
	})
	b.must(t, "x-user: me", "original")
	if s.Replicas() != 1 {
		t.Errorf("%d replicas", s.Replicas())
	}
	close(b.prepared)
	b.expect(t, "local")
	said.has(t, "replica", "b: the port is claimed there")
	s.Close()
	if n := b.sessions(t); n != 0 {
		t.Errorf("%d sessions are left on b", n)
	}
}

func TestAPreparedReplicaThatGoesIsLeft(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	b.prepared = make(chan struct{})
	f := newField(a)
	begin(t, f, "./shop")
	for _, change := range []struct {
		spots []*spot
		want  int
	}{{[]*spot{a, b}, 1}, {[]*spot{a}, 0}} {
		f.set(nil, change.spots...)
		eventually(t, func() error {
			if n := b.sessions(t); n != change.want {
				return fmt.Errorf("%d sessions on b", n)
			}
			return nil
		})
	}
}

func TestAKilledAgentTakesNothingWithItAndIsComeBackTo(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	s, said := begin(t, newField(a, b), "./shop")
	c := claim(t, s, "local")
	b.kill(b.agent)
	b.expect(t, "original")
	a.must(t, "x-user: me", "local")
	said.has(t, "lost", "b: ")
	b.start(t)
	b.expect(t, "local")
	said.has(t, "back", "b: after ")
	if c.Replicas() != 2 {
		t.Errorf("claimed on %d replicas", c.Replicas())
	}
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

func TestAnAgentThatIsToldToEndSaysFarewellAndIsComeBackTo(t *testing.T) {
	t.Parallel()
	a := newSpot(t, "a")
	s, said := begin(t, newField(a), "./shop")
	claim(t, s, "local")
	a.signal(t, syscall.SIGTERM)
	said.has(t, "lost", "a: ")
	_ = a.agent.Wait()
	a.must(t, "x-user: me", "original")
	a.start(t)
	a.expect(t, "local")
}

func TestAReplicaThatHangsDoesNotHoldUpAClaim(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	s, _ := begin(t, newField(a, b), "./shop")
	a.signal(t, syscall.SIGSTOP)
	asked := time.Now()
	c := claim(t, s, "local")
	if took := time.Since(asked); took > slowReplica+time.Second {
		t.Errorf("took %v", took)
	}
	b.must(t, "x-user: me", "local")
	a.signal(t, syscall.SIGCONT)
	a.expect(t, "local")
	eventually(t, func() error {
		if c.Replicas() != 2 {
			return errors.New("not claimed on both")
		}
		return nil
	})
}

func TestAReplicaThatCannotBeEnteredIsEnteredLater(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	b.kill(b.agent)
	os.Remove(b.socket)
	s, said := begin(t, newField(a, b), "./shop")
	said.has(t, "waiting", "b: ")
	claim(t, s, "local")
	b.start(t)
	b.expect(t, "local")
}

func TestWithoutAnyReplicaThereIsNoSession(t *testing.T) {
	t.Parallel()
	a := newSpot(t, "a")
	a.kill(a.agent)
	os.Remove(a.socket)
	_, err := open(t.Context(), Config{Step: func(string, string) {}}, newField(a))
	if !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v", err)
	}
}

func TestAPlaceThatIsGoneIsLeftAlone(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	f := newField(a, b)
	s, said := begin(t, f, "./shop")
	claim(t, s, "local")
	f.set(nil, a)
	b.must(t, "x-user: me", "local") // its link stands
	b.kill(b.agent)
	said.has(t, "gone", "b: ")
	b.start(t)
	a.must(t, "x-user: me", "local")
	b.must(t, "x-user: me", "original")
	f.set(nil, a, b)
	b.expect(t, "local")
}

func TestASessionEndsWithItsTarget(t *testing.T) {
	t.Parallel()
	a := newSpot(t, "a")
	f := newField(a)
	s, _ := begin(t, f, "./shop")
	c := claim(t, s, "local")
	f.set(errGone)
	<-s.Done()
	if err := s.Err(); !errors.Is(err, errGone) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Accept(); err == nil {
		t.Error("the claim goes on")
	}
	s.Close()
	a.must(t, "x-user: me", "original")
}

func TestAConflictOnOneReplicaReleasesTheOthers(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	theirs, _ := begin(t, newField(b), "./theirs")
	claim(t, theirs, "theirs")
	ours, _ := begin(t, newField(a, b), "./ours")
	_, err := ours.Claim(t.Context(), 8080, Wish{Filter: mine(t)})
	var taken *Conflict
	if !errors.As(err, &taken) || !strings.Contains(taken.Holder, "./theirs") {
		t.Fatalf("got %v, want a conflict", err)
	}
	a.must(t, "x-user: me", "original")
	b.must(t, "x-user: me", "theirs")
	// One that comes later and refuses is told, and does not matter to the others.
	f := newField(a)
	late, lateSaid := begin(t, f, "./late")
	claim(t, late, "late")
	f.set(nil, a, b)
	lateSaid.has(t, "refused", "./theirs")
	a.must(t, "x-user: me", "late")
	theirs.Close()
	b.expect(t, "late")
	lateSaid.has(t, "claimed", "b: port 8080")
}

func TestASessionIsStoppedByItsID(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	s, _ := begin(t, newField(a, b), "./shop")
	claim(t, s, "local")
	other, _ := begin(t, newField(a, b), "./other")
	running, err := Sessions(t.Context(), a.pipe(t))
	if err != nil || len(running) != 2 {
		t.Fatalf("%+v, %v", running, err)
	}
	for _, r := range running {
		if r.ID == s.ID() && (len(r.Holdings) != 1 || r.Holdings[0].Port != 8080 || r.Command != "./shop" || r.Name == "" || r.User == "" || r.PID != os.Getpid()) {
			t.Errorf("%+v", r)
		}
	}
	if n, err := Stop(t.Context(), a.pipe(t), s.ID()); n != 1 || err != nil {
		t.Fatalf("stopped %d, %v", n, err)
	}
	<-s.Done()
	if err := s.Err(); err == nil || !strings.HasPrefix(err.Error(), "stopped by ") {
		t.Errorf("ended with %v", err)
	}
	s.Close()
	a.must(t, "x-user: me", "original")
	b.must(t, "x-user: me", "original")
	if other.Err() != nil || other.Replicas() != 2 {
		t.Errorf("the other session: %v", other.Err())
	}
	in, err := Inspect(t.Context(), b.pipe(t))
	if err != nil || in.Kernel == "" || len(in.Features) == 0 || len(in.Listeners) == 0 {
		t.Errorf("%+v, %v", in, err)
	}
}

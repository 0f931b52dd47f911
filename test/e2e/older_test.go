//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// keeperManifest is a client that keeps its one connection open, as a gRPC channel does, and asks over it only when it is told to.
const keeperManifest = `
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: keeper, image: ` + shopImage + `, args: [bystander, "", ":8081"]}
`

// flushTime is how long a flush tries to find busy connections idle (30 s, see docs/SECURITY.md), and some.
const flushTime = 45 * time.Second

// keeper asks over its kept connection.
type keeper struct{ namespace, url string }

// story is who answered, and how often the connection was opened until then.
type story struct {
	By     string
	Opened int64
}

// openKeeper opens the connection to the shop's only replica.
func openKeeper(tb testing.TB, s *shop) *keeper {
	tb.Helper()
	apply(tb, s.namespace, keeperManifest)
	mustKubectl(tb, "-n", s.namespace, "wait", "--for=condition=Ready", "pod/keeper", "--timeout=60s")
	k := &keeper{s.namespace, "http://" + s.ips(tb)[0] + ":8080/"}
	within(tb, 30*time.Second, func() error { return k.ask("/keep", story{"original", 1}) })
	return k
}

// ask fails unless the answer is as it should be.
func (k *keeper) ask(path string, want story, headers ...string) error {
	text, err := raw(k.namespace, "keeper", "8081", path, url.Values{"url": {k.url}, "header": headers})
	if err != nil {
		return err
	}
	var got story
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	if got != want {
		return fmt.Errorf("the kept connection: %+v, not %+v", got, want)
	}
	return nil
}

func (k *keeper) mustAsk(tb testing.TB, want story, headers ...string) {
	tb.Helper()
	if err := k.ask("/again", want, headers...); err != nil {
		tb.Error(err)
	}
}

// TestConnectionsOlderThanTheSessionAreNamed but left alone, while new ones are taken.
func TestConnectionsOlderThanTheSessionAreNamed(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	k := openKeeper(t, s)
	m := dev.steal(t, s, "me")
	m.WaitFor(t, "open before: their requests stay with the original until their clients close them (--flush closes them)")
	k.mustAsk(t, story{"original", 1}, "x-user: me")
	if err := s.everywhere(t, "me", 1, "x-user: me"); err != nil {
		t.Error(err)
	}
	m.Stop(t)
	k.mustAsk(t, story{"original", 1}, "x-user: me")
	mustLeaveNothing(t, s.namespace, soon)
	s.mustBeUnharmed(t, 0)
}

// TestConnectionsOlderThanTheSessionAreClosedIfItIsToldTo as a Job and in the pod; those of the bystander, which are never idle, are not.
func TestConnectionsOlderThanTheSessionAreClosedIfItIsToldTo(t *testing.T) {
	for _, flags := range [][]string{{"--flush"}, {"--flush", "--ephemeral"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			s, dev := openShop(t, 1), newDeveloper(t)
			k := openKeeper(t, s)
			m := dev.steal(t, s, "me", flags...)
			m.WaitFor(t, "open before: closed one by one, each when nothing goes over it")
			within(t, flushTime, func() error {
				if !strings.Contains(m.Output(), "of the connections older than the session, 1 closed") {
					return fmt.Errorf("nothing was closed:\n%s", m.Output())
				}
				return nil
			})
			k.mustAsk(t, story{"me", 2}, "x-user: me")
			k.mustAsk(t, story{"original", 2}, "x-user: you")
			m.Stop(t)
			s.mustBeUnharmed(t, 0)
		})
	}
}

// TestAnAgentThatMayNotCloseConnectionsSaysSo to a second session, and serves the first on.
func TestAnAgentThatMayNotCloseConnectionsSaysSo(t *testing.T) {
	s, dev, other := openShop(t, 1), newDeveloper(t), newDeveloper(t)
	k := openKeeper(t, s)
	first := dev.steal(t, s, "me")
	second := other.startSteal(t, s, "you", "--flush")
	second.WaitFor(t, "CAP_NET_ADMIN")
	second.WaitFor(t, "start again when all other sessions there are over")
	if err := s.everywhere(t, "me", 1, "x-user: me"); err != nil {
		t.Error(err)
	}
	k.mustAsk(t, story{"original", 1}, "x-user: you")
	first.Stop(t)
	s.mustBeUnharmed(t, 0)
}

package older

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// mustFindQuick is Find, at a pace that suits a test whose clients wait for nothing.
func mustFindQuick(tb testing.TB, h *testnet.Host) *Connections {
	tb.Helper()
	found := mustFind(tb, h)
	found.pace.answer = found.pace.quiet
	return found
}

func mustFlush(tb testing.TB, found *Connections, want Outcome) {
	tb.Helper()
	begin := time.Now()
	o, err := found.Flush(tb.Context())
	if err != nil || o != want {
		tb.Errorf("%+v, %v; want %+v", o, err, want)
	}
	tb.Logf("%+v in %v", o, time.Since(begin))
}

// TestOnlyWhatIsIdleIsFlushed and the others are given up in time.
func TestOnlyWhatIsIdleIsFlushed(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	talks, waits, idle := mustDial(t, n.Client, n.Target.Addr4), mustDial(t, n.Client, n.Target.Addr6), mustDial(t, n.Client, n.Target.Addr4)
	talks.mustEcho(t)
	waits.mustEcho(t)
	idle.tell(t, "slowly")
	idle.mustSay(t, "slowly")
	waits.tell(t, "ignore me: the answer takes its time")
	mustClaim(t, n.Target, func(net.Listener) {})
	found := mustFind(t, n.Target)
	found.pace = pace{every: gentle.every, quiet: time.Second, answer: time.Minute, patience: 3 * time.Second}
	over, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-tick.C:
				talks.mustEcho(t)
			case <-stop:
				return
			}
		}
	}()
	mustFlush(t, found, Outcome{Closed: 1, Stayed: 2})
	close(stop)
	<-over
	idle.mustSay(t, "ended:")
	talks.mustEcho(t)
	waits.mustEcho(t)
	if left := mustFind(t, n.Target); left.Len() != 2 {
		t.Errorf("left: %+v", left.All())
	}
}

// TestWhatTheOriginalHasNotReadIsNotFlushed for it may be a request.
func TestWhatTheOriginalHasNotReadIsNotFlushed(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "hold", "tcp", "[::]:8080")
	c := mustDial(t, n.Client, n.Target.Addr4)
	eventually(t, "accepted", func() bool { return mustFind(t, n.Target).Len() == 1 })
	c.tell(t, "hello")
	eventually(t, "arrived", func() bool { return mustFind(t, n.Target).All()[0].Unread > 0 })
	found := mustFind(t, n.Target)
	found.pace.patience, found.pace.answer = time.Second, 0
	mustFlush(t, found, Outcome{Stayed: 1})
}

// TestAClientThatSpokeLastIsFlushedLater as HTTP/2 clients do, who acknowledge what the server says when all is answered.
func TestAClientThatSpokeLastIsFlushedLater(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	c := mustDial(t, n.Client, n.Target.Addr4)
	c.mustEcho(t)
	begin := time.Now()
	eventually(t, "quiet", func() bool { return mustFind(t, n.Target).All()[0].Idle > 20*time.Millisecond })
	c.tell(t, "ignore me")
	found := mustFind(t, n.Target)
	found.pace.answer = time.Second
	mustFlush(t, found, Outcome{Closed: 1})
	if took := time.Since(begin); took < found.pace.answer {
		t.Errorf("closed after %v", took)
	}
}

// TestConnectionsAreFlushedOneByOne the one that is idle for longest first.
func TestConnectionsAreFlushedOneByOne(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	var clients []client
	for range 5 {
		clients = append(clients, mustDial(t, n.Client, n.Target.Addr4))
	}
	for i := range clients { // the last one speaks first
		c := clients[len(clients)-1-i]
		c.mustEcho(t)
		eventually(t, "a moment later", func() bool {
			for _, o := range mustFind(t, n.Target).All() {
				if o.Client == c.addr && o.Idle >= 10*time.Millisecond {
					return true
				}
			}
			return false
		})
	}
	mustClaim(t, n.Target, func(net.Listener) {})
	found := mustFindQuick(t, n.Target)
	ended := make(chan int, len(clients))
	for i, c := range clients {
		go func() { c.lines.Scan(); ended <- i }()
	}
	begin := time.Now()
	mustFlush(t, found, Outcome{Closed: len(clients)})
	if took, least := time.Since(begin), time.Duration(len(clients)-1)*gentle.every; took < least {
		t.Errorf("%d closed in %v; at least %v", len(clients), took, least)
	}
	for i := range clients {
		if got, want := <-ended, len(clients)-1-i; got != want {
			t.Errorf("closed as number %d: client %d, not %d", i, got, want)
		}
	}
}

// TestTheTwoSidesOfAFlushedConnection get what docs/SECURITY.md says.
func TestTheTwoSidesOfAFlushedConnection(t *testing.T) {
	n := testnet.New(t)
	original := mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	for to, from := range ways(n) {
		c := mustDial(t, from, to)
		c.mustEcho(t)
		mustFlush(t, mustFindQuick(t, n.Target), Outcome{Closed: 1})
		if got := c.line(t); !strings.Contains(got, unix.ECONNRESET.Error()) {
			t.Errorf("%v: the client: %q", to, got)
		}
		if got := original.line(t); !strings.Contains(got, unix.ECONNABORTED.Error()) {
			t.Errorf("%v: the original: %q", to, got)
		}
	}
}

func TestYoungerConnectionsAreNotFlushed(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	old := mustDial(t, n.Client, n.Target.Addr4)
	old.mustEcho(t)
	found := mustFindQuick(t, n.Target)
	young := mustDial(t, n.Client, n.Target.Addr4)
	young.mustEcho(t)
	mustFlush(t, found, Outcome{Closed: 1})
	old.mustSay(t, "ended:")
	young.mustEcho(t)
}

// TestAConnectionThatNobodyHasAcceptedYetIsFlushedLater though it does not count before.
func TestAConnectionThatNobodyHasAcceptedYetIsFlushedLater(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080", "defer")
	c := mustDial(t, n.Client, n.Target.Addr4)
	found := mustFindQuick(t, n.Target)
	if found.Len() != 0 {
		t.Fatalf("accepted: %+v", found.All())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		mustFlush(t, found, Outcome{Closed: 1})
	}()
	select {
	case <-done:
		t.Error("nobody waited for it")
	case <-time.After(4 * found.pace.quiet): // some looks later
	}
	c.mustEcho(t)
	c.mustSay(t, "ended:")
	<-done
}

func TestConnectionsThatEndMeanwhileAreToldApart(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	leaves, stays := mustDial(t, n.Client, n.Target.Addr4), mustDial(t, n.Client, n.Target.Addr4)
	leaves.mustEcho(t)
	stays.mustEcho(t)
	found := mustFindQuick(t, n.Target)
	leaves.tell(t, "hang up")
	leaves.mustSay(t, "ended:")
	mustFlush(t, found, Outcome{Closed: 1, Ended: 1})
}

func TestAFlushEndsWithItsContext(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	for range 3 {
		mustDial(t, n.Client, n.Target.Addr4).mustEcho(t)
	}
	found := mustFindQuick(t, n.Target)
	found.pace.every = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		eventually(t, "one is closed", func() bool { return mustFind(t, n.Target).Len() == 2 })
		cancel()
	}()
	o, err := found.Flush(ctx)
	if want := (Outcome{Closed: 1, Stayed: 2}); o != want || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v; want %+v", o, err, want)
	}
}

func TestWhoMayNotFlushIsToldSo(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	c := mustDial(t, n.Client, n.Target.Addr4)
	c.mustEcho(t)
	p := mustStart(t, n.Target, []string{"setpriv", "--inh-caps=-all", "--bounding-set=-net_admin"}, "flush", n.Target.Name)
	for _, want := range []string{
		"1", "{Closed:0 Ended:0 Stayed:1}",
		"close older connections: this agent has not got the right (CAP_NET_ADMIN); start again when all other sessions there are over: then an agent comes that has it",
	} {
		p.mustSay(t, want)
	}
	c.mustEcho(t)
	p = mustStart(t, n.Target, []string{"setpriv", "--inh-caps=-all", "--bounding-set=-all,+net_admin,+sys_admin,+sys_ptrace"}, "flush", n.Target.Name)
	p.mustSay(t, "1")
	p.mustSay(t, "{Closed:1 Ended:0 Stayed:0}")
	c.mustSay(t, "ended:")
}

func TestAKernelThatCannotIsToldApart(t *testing.T) {
	for errno, want := range map[error]string{
		unix.EOPNOTSUPP: "close: this kernel cannot (CONFIG_INET_DIAG_DESTROY)",
		unix.ENOENT:     "close: the kernel does not tell of connections (CONFIG_INET_DIAG)",
		unix.ENOBUFS:    "close: no buffer space available",
	} {
		err := refused("close", fmt.Errorf("ask: %w", errno))
		if !strings.HasPrefix(strings.Replace(err.Error(), "ask: ", "", 1), want) || !errors.Is(err, errno) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

func TestToTryLeavesNothing(t *testing.T) {
	h := testnet.Lone(t)
	for range 20 {
		if err := MayFlush(t.Context(), h.NS); err != nil {
			t.Fatal(err)
		}
	}
	var out []byte
	h.Do(t, func() (err error) {
		out, err = exec.Command("ss", "-Htan").Output()
		return err
	})
	if len(out) > 0 {
		t.Errorf("left:\n%s", out)
	}
}

// TestAConnectionIsLookedAtOnceMoreBeforeItIsClosed since its turn may come long after it was found idle.
func TestAConnectionIsLookedAtOnceMoreBeforeItIsClosed(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "echo", "tcp", "[::]:8080")
	first, second := mustDial(t, n.Client, n.Target.Addr4), mustDial(t, n.Client, n.Target.Addr4)
	first.mustEcho(t)
	eventually(t, "a moment later", func() bool {
		return slices.ContainsFunc(mustFind(t, n.Target).All(), func(c Connection) bool { return c.Client == first.addr && c.Idle >= 20*time.Millisecond })
	})
	second.mustEcho(t)
	found := mustFindQuick(t, n.Target)
	found.pace.every, found.pace.patience = time.Second, time.Second
	go func() {
		first.mustSay(t, "ended:")
		second.tell(t, "ignore me") // it waits for an answer from now on
	}()
	found.pace.answer = time.Second * 3 / 2
	eventually(t, "quiet", func() bool {
		return !slices.ContainsFunc(mustFind(t, n.Target).All(), func(c Connection) bool { return c.Idle < found.pace.answer })
	})
	mustFlush(t, found, Outcome{Closed: 1, Stayed: 1})
	second.mustEcho(t)
}

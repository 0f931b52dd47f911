package layer_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// clientProbes is what every client must see, whatever it is written in. The address in the pod is shown, its port is not.
var clientProbes = []struct{ probe, want string }{
	{"lookup web", webV4},
	{"lookup web.shop.svc.cluster.local", webV4},
	{"lookup web6", webV6},
	{"lookup db", dbV4}, // of the pod's hosts file
	{"lookup many", "60 addresses"},
	{"lookup gone", "no such name"},
	{"resolve web.shop.svc.cluster.local", webV4},
	{"resolve many.shop.svc.cluster.local", "60 addresses"},
	{"connect 198.18.0.20 80", "ok from 198.18.0.9 to 198.18.0.20:80"},
	{"connect fd18::20 80", "ok from [fd18::9] to [fd18::20]:80"},
	{"connect 198.18.0.20 81", "ECONNREFUSED"},
	{"connect fd18::20 81", "ECONNREFUSED"},
	{"connect 198.19.0.1 80", "EHOSTUNREACH"},
	{"connect 198.19.77.1 80", "ETIMEDOUT"},
	{"connect 198.18.0.70 80", "ok from 198.18.0.9 to 198.18.0.70:80"},
	{"nonblock 198.18.0.20 80", "ok from 198.18.0.9 to 198.18.0.20:80"},
	{"nonblock fd18::20 80", "ok from [fd18::9] to [fd18::20]:80"},
	{"nonblock 198.18.0.20 81", "ECONNREFUSED"},
	{"nonblock 198.19.0.1 80", "EHOSTUNREACH"},
	{"nonblock 198.19.77.1 80", "ETIMEDOUT"},
	{"nonblock 198.18.0.70 80", "ok from 198.18.0.9 to 198.18.0.70:80"},
	{"impatient 198.18.0.70 80", "gave up"},
	{"steady 198.18.0.70 80", "steady"},
	{"send 198.18.0.20 7", "hello from 198.18.0.20:7"},
	{"send fd18::20 7", "hello from [fd18::20]:7"},
	{"converse 198.18.0.20 7", "hello from 198.18.0.20:7"},
	{"converse fd18::20 7", "hello from [fd18::20]:7"},
	{"get http://web/", "web says hello to 198.18.0.9"},
}

var ephemeral = regexp.MustCompile(`(from \S+):\d+ to`)

// clients are the programs, the probes each of them knows by their first word, and those that it cannot do natively either.
var clients = []struct {
	program
	verbs   string
	without []string
}{
	{program: goClient, verbs: "lookup connect nonblock impatient send converse get"},
	{program: glibcClient, verbs: "lookup connect nonblock impatient send converse"},
	{program: muslClient, verbs: "lookup connect nonblock impatient send converse", without: []string{
		"lookup many", // musl asks again over TCP from 1.2.4 on
	}},
	{program: pythonClient, verbs: "lookup connect nonblock impatient send converse get"},
	{program: asyncioClient, verbs: "lookup connect impatient steady send converse"},
	{program: nodeClient, verbs: "lookup resolve connect nonblock impatient steady send converse get"},
	{program: javaClient, verbs: "lookup connect nonblock impatient send converse get"},
	{program: rubyClient, verbs: "lookup resolve connect nonblock impatient send converse get"},
	{program: shellClient, verbs: "lookup connect get", without: []string{"lookup many"}},
}

func TestClientsSeeThePodsNetwork(t *testing.T) {
	w := mustWorld(t)
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they mostly wait for a slow network
			probes, want := probesFor(c.verbs, c.without)
			expectProbes(t, w.mustStart(t, c.command(t, probes...)), want)
		})
	}
}

// The table itself is true: the same programs see the same in the pod, without the layer. The network's slowness and silence
// are the test's own and left out.
func TestClientsSeeTheSameInThePodItself(t *testing.T) {
	w := mustWorld(t)
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			without := c.without
			for _, p := range clientProbes {
				if strings.Contains(p.probe, slowV4) || strings.Contains(p.probe, silent) {
					without = append(without, p.probe)
				}
			}
			probes, want := probesFor(c.verbs, without)
			expectProbes(t, w.mustStartInPod(t, c.command(t, probes...)), want)
		})
	}
}

func probesFor(verbs string, without []string) (probes, want []string) {
	for _, p := range clientProbes {
		verb, _, _ := strings.Cut(p.probe, " ")
		if slices.Contains(strings.Fields(verbs), verb) && !slices.Contains(without, p.probe) {
			probes = append(probes, p.probe)
			want = append(want, p.probe+": "+p.want)
		}
	}
	return probes, want
}

func expectProbes(tb testing.TB, l *local, want []string) {
	tb.Helper()
	for _, line := range want {
		if got := ephemeral.ReplaceAllString(l.mustLine(tb), "$1 to"); got != line {
			tb.Errorf("got  %s\nwant %s", got, line)
		}
	}
	l.mustEnd(tb, 0)
}

// With one processor a blocking call that the Go runtime does not know of would stop the supervisor for good.
func TestOneProcessorIsEnough(t *testing.T) {
	w := mustWorld(t)
	argv := goClient.command(t, "lookup web", "connect 198.18.0.20 80", "connect 198.18.0.20 81", "send 198.18.0.20 7")
	l := w.mustStart(t, argv, func(sv *supervision) { sv.Env = append(sv.Env, "GOMAXPROCS=1") })
	expectProbes(t, l, []string{"lookup web: " + webV4, "connect 198.18.0.20 80: ok from 198.18.0.9 to 198.18.0.20:80",
		"connect 198.18.0.20 81: ECONNREFUSED", "send 198.18.0.20 7: hello from 198.18.0.20:7"})
}

//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// developerID is an ordinary user whom no host knows.
const developerID = "20001"

// The cluster's own network for what lies outside the nodes: see test/cluster.
const (
	fabric = "magpie-fabric"
	bridge = "br0"
)

// lastAddress numbers the developers of a run.
var lastAddress atomic.Int32

// developer is an ordinary user of a machine of his own, from which only the cluster's API server can be reached.
type developer struct {
	host   *testnet.Host
	cable  string // his end of the cable in the fabric
	folder string // where he works, with his kubeconfig in it
	env    []string
}

// newDeveloper makes one with the administrator's kubeconfig.
func newDeveloper(tb testing.TB) *developer {
	tb.Helper()
	d := &developer{host: testnet.Lone(tb), cable: "dev" + strings.ToLower(rand.Text()[:8]), folder: tb.TempDir()}
	for _, open := range []string{d.folder, filepath.Dir(d.folder)} {
		if err := os.Chmod(open, 0o777); err != nil {
			tb.Fatal(err)
		}
	}
	d.plug(tb)
	d.use(tb, kubeconfig)
	return d
}

// plug joins his machine to the fabric.
func (d *developer) plug(tb testing.TB) {
	tb.Helper()
	addr := netip.AddrFrom4([4]byte{198, 19, 255, byte(100 + lastAddress.Add(1)%150)})
	for _, args := range []string{
		"-n " + fabric + " link add " + d.cable + " type veth peer name eth0 netns " + d.host.Name,
		"-n " + fabric + " link set " + d.cable + " master " + bridge + " up",
		"-n " + d.host.Name + " addr add " + addr.String() + "/24 dev eth0",
		"-n " + d.host.Name + " link set eth0 up",
	} {
		ip(tb, strings.Fields(args)...)
	}
}

// cut takes his network away, and returns what gives it back.
func (d *developer) cut(tb testing.TB) (mend func()) {
	tb.Helper()
	ip(tb, "-n", fabric, "link", "set", d.cable, "down")
	return func() { ip(tb, "-n", fabric, "link", "set", d.cable, "up") }
}

func ip(tb testing.TB, args ...string) {
	tb.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		tb.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// use gives him a kubeconfig.
func (d *developer) use(tb testing.TB, config string) {
	tb.Helper()
	content, err := os.ReadFile(config)
	if err != nil {
		tb.Fatal(err)
	}
	mine := filepath.Join(d.folder, "kubeconfig")
	if err := os.WriteFile(mine, content, 0o644); err != nil {
		tb.Fatal(err)
	}
	d.env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + d.folder, "USER=dev", "LANG=C", "TMPDIR=" + d.folder, "KUBECONFIG=" + mine, "MAGPIE_AGENT_IMAGE=" + agentImage}
}

// magpie starts it as the developer.
func (d *developer) magpie(tb testing.TB, args ...string) *testrun.Program {
	tb.Helper()
	cmd := exec.Command("setpriv", slices.Concat([]string{"--reuid", developerID, "--regid", developerID, "--clear-groups", "--inh-caps=-all",
		filepath.Join(programs, "magpie")}, args)...)
	cmd.Dir, cmd.Env = d.folder, d.env
	return testrun.Start(tb, cmd, func() error { return d.host.NS.Do(cmd.Start) })
}

// run runs magpie to its end, and returns what it said and its exit status.
func (d *developer) run(tb testing.TB, args ...string) (string, int) {
	tb.Helper()
	p := d.magpie(tb, args...)
	status := p.Status(tb)
	return p.Output(), status
}

// steal opens a session on the shop with a local shop of his own, for requests with the header x-user: USER, and waits
// until it is ready.
func (d *developer) steal(tb testing.TB, s *shop, user string, flags ...string) *testrun.Program {
	tb.Helper()
	m := d.startSteal(tb, s, user, flags...)
	m.WaitFor(tb, "ready")
	return m
}

func (d *developer) startSteal(tb testing.TB, s *shop, user string, flags ...string) *testrun.Program {
	tb.Helper()
	// Connections of the bystander that pass through the agent would hold it for a minute.
	return d.magpie(tb, slices.Concat([]string{"exec", "--target", "deploy/shop", "-n", s.namespace, "--steal", "--linger", "2s", "--http-header-filter", "x-user: " + user}, flags,
		[]string{"--", filepath.Join(programs, "shop"), "serve", user, ":8080"})...)
}

func decodeAnswer(text string) (a answer, err error) {
	err = json.Unmarshal([]byte(text), &a)
	return a, err
}

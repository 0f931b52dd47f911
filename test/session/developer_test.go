package session

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// developerID is the user that developers are here: one that no host knows.
const developerID = "20001"

// developer is an ordinary user of a machine that has no route out. What sudo grants is the test's own: it is mounted
// over the machine's, in a mount namespace that nobody else sees.
type developer struct {
	host *testnet.Host
	temp string // $TMPDIR
	path string // $PATH
	etc  string
}

// newDeveloper makes one whom sudo lets do what the rules of sudoers(5) say; they call him dev.
func newDeveloper(tb testing.TB, rules string) *developer {
	tb.Helper()
	dir := tb.TempDir()
	d := &developer{host: testnet.Lone(tb), etc: dir, temp: filepath.Join(dir, "tmp"), path: "/usr/sbin:/usr/bin:/sbin:/bin"}
	for name, content := range map[string]string{
		"passwd":  "root:*:0:0::/root:/bin/sh\ndev:*:" + developerID + ":" + developerID + "::/nonexistent:/bin/sh\n",
		"group":   "root:x:0:\ndev:x:" + developerID + ":\n",
		"sudoers": "Defaults !fqdn\n" + rules + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o444); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.Mkdir(d.temp, 0o777); err != nil {
		tb.Fatal(err)
	}
	for _, open := range []string{d.temp, dir, filepath.Dir(dir)} {
		if err := os.Chmod(open, 0o777); err != nil {
			tb.Fatal(err)
		}
	}
	return d
}

// withAgent is one who may start agents and nothing else.
func withAgent(tb testing.TB) *developer {
	tb.Helper()
	return newDeveloper(tb, "dev ALL=(root) NOPASSWD: "+filepath.Join(programs, "magpie-agent")+" join *")
}

// asDeveloper becomes dev and drops every capability. The bounding set stays: without it sudo is nothing.
const asDeveloper = `set -e
for name in passwd group sudoers; do mount --bind "$1/$name" "/etc/$name"; done
shift
exec setpriv --reuid ` + developerID + ` --regid ` + developerID + ` --clear-groups --inh-caps=-all "$@"`

// command is a command that the developer gives.
func (d *developer) command(name string, args ...string) *exec.Cmd {
	wrapped := slices.Concat([]string{"-m", "--propagation", "private", "sh", "-c", asDeveloper, "sh", d.etc, name}, args)
	cmd := exec.Command("unshare", wrapped...)
	cmd.Dir = d.temp
	cmd.Env = []string{"PATH=" + d.path, "HOME=/nonexistent", "USER=dev", "LANG=C", "TMPDIR=" + d.temp}
	return cmd
}

// start starts a command.
func (d *developer) start(tb testing.TB, cmd *exec.Cmd) *testrun.Program {
	tb.Helper()
	return testrun.Start(tb, cmd, func() error { return d.host.NS.Do(cmd.Start) })
}

// exec starts magpie exec --steal on the target, with what else is in args.
func (d *developer) exec(tb testing.TB, n *testnet.Net, args ...string) *testrun.Program {
	tb.Helper()
	return d.start(tb, d.command(filepath.Join(programs, "magpie"), append([]string{"exec", "--target", "netns/" + n.Target.Name, "--steal"}, args...)...))
}

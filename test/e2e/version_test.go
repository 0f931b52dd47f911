//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// loadImage makes an image of a program and brings it to the nodes.
func loadImage(tb testing.TB, name, program string) {
	tb.Helper()
	archive := filepath.Join(tb.TempDir(), "image.tar")
	mustGo(tb, "run", "./deploy/image", "-o", archive, "-t", name, program)
	mustGo(tb, "-C", "test/cluster", "run", ".", "load", archive)
}

// release builds a program as if it were of a release.
func release(tb testing.TB, program, version string) (path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), program)
	mustGo(tb, "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", path, "./cmd/"+program)
	return path
}

func mustGo(tb testing.TB, args ...string) {
	tb.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("go %v: %v\n%s", args, err, out)
	}
}

// TestVersionsMayBeOneMinorApart has agents of three releases: of images that were named, and one that a colleague has started.
func TestVersionsMayBeOneMinorApart(t *testing.T) {
	const ours, next, far = "v1.2.0", "v1.3.1", "v1.4.0"
	old, fresh := programs, filepath.Dir(release(t, "magpie", ours))
	for _, version := range []string{next, far} {
		loadImage(t, "magpie.test/magpie-agent:"+version, release(t, "magpie-agent", version))
	}
	s, dev := openShop(t, 1), newDeveloper(t)
	mustOpen(t, fresh)
	with := func(version string) []string {
		return []string{"exec", "--target", "deploy/shop", "-n", s.namespace, "--agent-image", "magpie.test/magpie-agent:" + version, "--", "true"}
	}
	programs = fresh
	t.Cleanup(func() { programs = old })
	if out, status := dev.run(t, with(next)...); status != 0 || !strings.Contains(out, "the agent is of version "+next+", this is "+ours) {
		t.Errorf("one minor apart: status %d:\n%s", status, out)
	}
	mustLeaveNothing(t, s.namespace, soon)
	refused := func(what string, args []string) {
		t.Helper()
		out, status := dev.run(t, args...)
		if status != 125 || !strings.Contains(out, "is of version "+far+", this client of "+ours) || !strings.Contains(out, "hint: update this client") {
			t.Errorf("%s: status %d:\n%s", what, status, out)
		}
	}
	refused("an image that is named", with(far))
	mustLeaveNothing(t, s.namespace, soon)

	theirs := filepath.Dir(release(t, "magpie", far))
	mustOpen(t, theirs)
	programs = theirs
	m := dev.magpie(t, append(with(far)[:7], "--", "sleep", "60")...)
	m.WaitFor(t, "environment")
	programs = fresh
	refused("an agent that runs", with(next))
	m.Stop(t)
	mustLeaveNothing(t, s.namespace, soon)
}

// mustOpen lets everybody into a folder of a test.
func mustOpen(tb testing.TB, folder string) {
	tb.Helper()
	for _, dir := range []string{folder, filepath.Dir(folder)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			tb.Fatal(err)
		}
	}
}

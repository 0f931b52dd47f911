//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testrun"
)

// TestTheReadmeIsTrue gives the commands of the README's cluster section as they stand there, in the folder of a clone, after
// `make cluster`.
func TestTheReadmeIsTrue(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	here, there := readmeCommands(t, filepath.Join(root, "README.md"))
	if here[0] != "make cluster" {
		t.Fatalf("the section begins with %q", here[0])
	}
	export := here[1]
	bash := func(command string) *exec.Cmd {
		cmd := exec.Command("bash", "-c", export+"\n"+command)
		cmd.Dir = root
		return cmd
	}
	t.Cleanup(func() {
		if out, err := bash("kubectl delete --wait=false -f test/demo/shop.yaml").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	for _, command := range append([]string{here[0]}, here[2:len(here)-1]...) {
		if out, err := bash(command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	mustKubectl(t, "wait", "--for=condition=Ready", "pod/customer", "--timeout=60s")
	session := testrun.Start(t, bash("exec "+here[len(here)-1]), nil)
	session.WaitFor(t, "ready")
	for _, command := range there {
		command, answer, _ := strings.Cut(command, "#")
		answer, _, _ = strings.Cut(answer, ":")
		testrun.Eventually(t, func() error { // the first request may meet a Service that its node does not know yet
			_, err := bash(command).CombinedOutput()
			return err
		})
		out, err := bash(command).CombinedOutput()
		t.Logf("%s\n%s", command, out)
		if err != nil {
			t.Errorf("%s: %v", command, err)
		}
		if want := strings.TrimSpace(answer); strings.Contains(command, "customer") && !strings.HasPrefix(string(out), want+"|") {
			t.Errorf("%s: got %q, want it from %q", command, out, want)
		}
	}
}

// readmeCommands are the lines of the section's two blocks: for the first terminal, and for the second.
func readmeCommands(tb testing.TB, path string) (here, there []string) {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## In a cluster\n")
	parts := strings.Split(section, "```\n")
	if !found || len(parts) < 5 {
		tb.Fatal("README.md has no section 'In a cluster' with two blocks of commands")
	}
	return strings.Split(strings.TrimSpace(parts[1]), "\n"), strings.Split(strings.TrimSpace(parts[3]), "\n")
}

//go:build e2e

// Package e2e holds the tests in a real cluster: the built programs, the image of the agent, pods that serve and pods that
// call them. Each is a promise to a developer or to the others who use the cluster. It never looks inside the programs.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Images that are loaded into the nodes before the tests.
const (
	agentImage = "magpie.test/magpie-agent:e2e"
	shopImage  = "magpie.test/shop:e2e"
)

// What the tests run: absolute paths, because a developer of ours has a folder of his own.
var (
	programs   string // magpie, magpie-agent, shop
	kubeconfig string
	kubectlBin string
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "magpie-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := setUp(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func setUp(dir string) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // an ordinary user runs them too
		return err
	}
	programs, kubectlBin = dir, filepath.Join(root, ".cache/cluster/bin/kubectl")
	if kubeconfig = os.Getenv("KUBECONFIG"); kubeconfig == "" {
		kubeconfig = filepath.Join(root, ".cache/cluster/kubeconfig")
	}
	if _, err := os.Stat(kubeconfig); err != nil {
		return fmt.Errorf("no cluster: %w; start it with: make cluster", err)
	}
	for _, step := range [][]string{
		{"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir + "/", "./cmd/magpie", "./cmd/magpie-agent", "./test/e2e/shop"},
		{"go", "run", "./deploy/image", "-o", dir + "/agent.tar", "-t", agentImage, dir + "/magpie-agent"},
		{"go", "run", "./deploy/image", "-o", dir + "/shop.tar", "-t", shopImage, dir + "/shop"},
		{"go", "-C", "test/cluster", "run", ".", "load", dir + "/agent.tar", dir + "/shop.tar"},
	} {
		cmd := exec.Command(step[0], step[1:]...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", step, err, out)
		}
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Images of the lab's own, so that tests which run beside it keep theirs.
const (
	agentImage = "magpie.test/magpie-agent:bench"
	shopImage  = "magpie.test/shop:bench"
)

const (
	startTimeout = 30 * time.Second
	endTimeout   = 10 * time.Second
)

// lab is a shop in a namespace of its own, a caller beside it, and the programs of the developer, who is this host.
type lab struct {
	dir, namespace string
	kubectlBin     string
	undo           []func()
}

const manifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: shop, image: ` + shopImage + `, args: [serve, original, ":8080"], ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: caller, image: ` + shopImage + `, args: [bystander, "", ":8081"]}]}
`

func openLab(ctx context.Context) (_ *lab, err error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "magpie-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, namespace: "bench-" + strconv.Itoa(os.Getpid()), kubectlBin: filepath.Join(root, ".cache/cluster/bin/kubectl")}
	l.undo = append(l.undo, func() { _ = os.RemoveAll(dir) })
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if os.Getenv("KUBECONFIG") == "" {
		os.Setenv("KUBECONFIG", filepath.Join(root, ".cache/cluster/kubeconfig"))
	}
	os.Setenv("MAGPIE_AGENT_IMAGE", agentImage)
	if _, err := l.kubectl(ctx, "get", "nodes"); err != nil {
		return nil, fmt.Errorf("no cluster: %w; start it with: make cluster", err)
	}
	if err := l.build(ctx); err != nil {
		return nil, err
	}
	return l, l.openShop(ctx)
}

func (l *lab) close() {
	for i := len(l.undo) - 1; i >= 0; i-- {
		l.undo[i]()
	}
	l.undo = nil
}

// build makes the programs and loads the images.
func (l *lab) build(ctx context.Context) error {
	for _, step := range [][]string{
		{"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", l.dir + "/", "./cmd/magpie", "./cmd/magpie-agent", "./test/e2e/shop"},
		{"go", "-C", "test/cluster", "build", "-o", l.bin("cluster"), "."},
		{"go", "run", "./deploy/image", "-o", l.bin("agent.tar"), "-t", agentImage, l.bin("magpie-agent")},
		{"go", "run", "./deploy/image", "-o", l.bin("shop.tar"), "-t", shopImage, l.bin("shop")},
		{l.bin("cluster"), "load", l.bin("agent.tar"), l.bin("shop.tar")},
	} {
		cmd := exec.CommandContext(ctx, step[0], step[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", step, err, out)
		}
	}
	return nil
}

func (l *lab) bin(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) openShop(ctx context.Context) error {
	if _, err := l.kubectl(ctx, "create", "namespace", l.namespace); err != nil {
		return err
	}
	l.undo = append(l.undo, func() {
		_, _ = l.kubectl(context.Background(), "delete", "namespace", l.namespace, "--wait=false")
	})
	// The account that pods need comes a moment after the namespace.
	if err := eventually(ctx, func() error { return l.apply(ctx, manifest) }); err != nil {
		return err
	}
	for _, wait := range [][]string{{"rollout", "status", "deploy/shop"}, {"wait", "--for=condition=Ready", "pod/caller"}} {
		if _, err := l.kubectl(ctx, append(wait, "-n", l.namespace, "--timeout=60s")...); err != nil {
			return err
		}
	}
	return eventually(ctx, func() error {
		_, err := l.call(ctx, call{url: "http://shop/", most: 1})
		return err
	})
}

func (l *lab) apply(ctx context.Context, manifest string) error {
	cmd := exec.CommandContext(ctx, l.kubectlBin, "-n", l.namespace, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl apply: %w: %s", err, out)
	}
	return nil
}

func (l *lab) kubectl(ctx context.Context, args ...string) (string, error) {
	return output(exec.CommandContext(ctx, l.kubectlBin, args...))
}

// output is what a command says on stdout, or an error with what it says on stderr.
func output(cmd *exec.Cmd) (string, error) {
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, complaint.String())
	}
	return out.String(), nil
}

// exec is a command under magpie exec.
func (l *lab) exec(ctx context.Context, flags []string, argv ...string) *exec.Cmd {
	args := append([]string{"exec", "--target", "deploy/shop", "-n", l.namespace, "--linger", "1s"}, flags...)
	cmd := exec.CommandContext(ctx, l.bin("magpie"), append(append(args, "--"), argv...)...)
	// In a group of its own, because a terminal's Ctrl-C is for us; a session that was ended leaves nothing.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endTimeout
	return cmd
}

// steal is a session with a shop on this host that answers requests of a user.
func (l *lab) steal(ctx context.Context, user string, flags ...string) *exec.Cmd {
	flags = append([]string{"--steal", "--http-header-filter", "x-user: " + user}, flags...)
	return l.exec(ctx, flags, l.bin("shop"), "serve", user, ":8080")
}

// noAgent waits until no session is left behind.
func (l *lab) noAgent(ctx context.Context) error {
	return eventually(ctx, func() error {
		left, err := l.kubectl(ctx, "-n", l.namespace, "get", "jobs,pods", "-l", "app.kubernetes.io/name=magpie-agent", "-o", "name")
		if err == nil && left != "" {
			err = errors.New("still there: " + left)
		}
		return err
	})
}

// eventually tries until it works or startTimeout is over.
func eventually(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

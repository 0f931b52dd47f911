package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// patience is for a machine that is busy with other things; on an idle one the cluster takes a tenth of it.
const patience = 3 * time.Minute

// up starts the cluster, empty each time, and returns when pods run and DNS answers. One that is up stays as it is.
func up(p places) error {
	if _, err := control().pid(); err == nil {
		if err := ready(p); err == nil {
			fmt.Println("the cluster is up already")
			announce(p)
			return nil
		}
	}
	if err := down(p); err != nil { // what a run that broke left
		return err
	}
	steps := progress{start: time.Now()}
	if err := start(p, steps); err != nil {
		return upError{err, p.local("logs")}
	}
	announce(p)
	return nil
}

func start(p places, steps progress) error {
	if err := prepare(p); err != nil {
		return err
	}
	f, err := makeFabric()
	if err != nil {
		return err
	}
	defer f.close()
	for _, m := range machines() {
		if err := m.start(p, f); err != nil {
			return err
		}
	}
	steps.say("machines started")
	if err := applyManifests(p); err != nil {
		return err
	}
	steps.say("API server answers")
	if err := eventually(patience, func() error { return ready(p) }); err != nil {
		return err
	}
	steps.say("ready")
	return p.handOver()
}

// prepare makes all files: those of the machines, and the kubeconfig of whoever called.
func prepare(p places) error {
	keys, err := newPKI()
	if err != nil {
		return err
	}
	for _, m := range machines() {
		if err := m.writeFiles(keys); err != nil {
			return err
		}
	}
	admin, err := keys.kubeconfig("admin", "system:masters")
	if err != nil {
		return err
	}
	if err := os.RemoveAll(p.local("logs")); err != nil {
		return err
	}
	if err := os.MkdirAll(p.local("logs"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(p.kubeconfig(), admin, 0o600)
}

// applyManifests tells the API server of nodes and DNS, as soon as it listens.
func applyManifests(p places) error {
	dir := filepath.Join(stateDir, "manifests")
	if err := renderTree("manifests", dir, factsFor(control())); err != nil {
		return err
	}
	return eventually(patience, func() error {
		_, err := kubectl(p, "apply", "--server-side", "--force-conflicts", "-f", dir)
		return err
	})
}

// ready reports as an error what the cluster lacks: that both nodes take pods, and that DNS answers.
func ready(p places) error {
	args := []string{"wait", "--for=condition=Ready", "--timeout=5s"}
	for _, n := range nodes() {
		args = append(args, "node/"+n.Name)
	}
	if _, err := kubectl(p, args...); err != nil {
		return err
	}
	_, err := kubectl(p, "--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=5s")
	return err
}

func kubectl(p places, args ...string) (string, error) {
	cmd := exec.Command(p.kubectl(), append([]string{"--kubeconfig", p.kubeconfig(), "--request-timeout=5s"}, args...)...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return string(output), nil
}

func announce(p places) {
	fmt.Printf("export KUBECONFIG=%s PATH=%s:$PATH\n", p.kubeconfig(), filepath.Dir(p.kubectl()))
}

// upError says where to look when the cluster did not come up.
type upError struct {
	cause error
	logs  string
}

func (e upError) Error() string { return "start the cluster: " + e.cause.Error() }
func (e upError) Unwrap() error { return e.cause }
func (e upError) Hint() string  { return "the daemons' logs are in " + e.logs }

// down ends the cluster, also one that never came up, and leaves only the clone's own folder with the logs.
func down(p places) error {
	if err := killCluster(); err != nil {
		return err
	}
	return errors.Join(removeFabric(), removeCgroups(), os.RemoveAll(stateDir), removeFile(p.kubeconfig()))
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// status prints which machines run, and what the API server thinks of them.
func status(p places) error {
	for _, m := range machines() {
		pid, err := m.pid()
		if err != nil {
			fmt.Printf("%-8s down\n", m.Name)
			continue
		}
		fmt.Printf("%-8s up, %s, process %d\n", m.Name, m.Address, pid)
	}
	if _, err := control().pid(); err != nil {
		return nil
	}
	output, err := kubectl(p, "get", "nodes,pods", "--all-namespaces", "--output=wide")
	fmt.Print(output)
	return err
}

// load imports images into both nodes at the same time.
func load(archives []string) error {
	var all errgroup.Group
	for _, n := range nodes() {
		all.Go(func() error {
			for _, archive := range archives {
				if err := n.load(archive); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

// load reads the archive here: the machine does not see all of the host's files.
func (m machine) load(archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("load image: %w", err)
	}
	defer f.Close()
	cmd, err := m.command("ctr", "--namespace=k8s.io", "images", "import", "-")
	if err != nil {
		return fmt.Errorf("load image: %w", err)
	}
	cmd.Stdin = f
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load image %s on %s: %w: %s", archive, m.Name, err, output)
	}
	return nil
}

func shell(args []string) error {
	if len(args) == 0 {
		return errUsage{}
	}
	m, ok := machineNamed(args[0])
	if !ok {
		return fmt.Errorf("find machine %q: there are control, node1 and node2", args[0])
	}
	command := args[1:]
	if len(command) == 0 {
		command = []string{"bash"}
	}
	cmd, err := m.command(command...)
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

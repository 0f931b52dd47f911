package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// patience is for a machine that is busy with other things; on an idle one the cluster takes a tenth of it.
const patience = 3 * time.Minute

// busy is how long a cluster that is up may fail to answer before it counts as broken.
const busy = 20 * time.Second

// up starts the cluster, empty each time, and returns when pods run and DNS answers. One that is up stays as it is.
func up(p places) error {
	if isUp(p) {
		fmt.Println("the cluster is up already")
		return announce(p)
	}
	if err := down(p); err != nil { // what a run that broke left
		return err
	}
	steps := progress{start: time.Now()}
	if err := start(p, steps); err != nil {
		return upError{err, p.local("logs")}
	}
	return announce(p)
}

// isUp reports whether there is a cluster that works. It may be another clone's, which then is ours as well.
func isUp(p places) bool {
	for _, m := range machines() {
		if _, err := m.pid(); err != nil {
			return false
		}
	}
	return eventually(busy, func() error { return ready(p) }) == nil
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
	return nil
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
	return os.WriteFile(adminKubeconfig, admin, 0o600)
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

// announce hands the cluster over to the caller.
func announce(p places) error {
	admin, err := os.ReadFile(adminKubeconfig)
	if err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	if err := os.WriteFile(p.kubeconfig(), admin, 0o600); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	if err := p.handOver(); err != nil {
		return fmt.Errorf("hand the kubeconfig over: %w", err)
	}
	fmt.Printf("export KUBECONFIG=%s PATH=%s:$PATH\n", p.kubeconfig(), filepath.Dir(p.kubectl()))
	return nil
}

// upError says where to look when the cluster did not come up.
type upError struct {
	cause error
	logs  string
}

func (e upError) Error() string { return "start the cluster: " + e.cause.Error() }
func (e upError) Unwrap() error { return e.cause }
func (e upError) Hint() string  { return "the daemons' logs are in " + e.logs }

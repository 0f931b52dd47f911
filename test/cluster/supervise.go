package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const pkiDir = "/etc/kubernetes/pki"

// supervise starts the machine's daemons in their order and stays with them. Whoever ends is named in the log and not started again: a
// cluster for tests should show what broke.
func supervise(args []string) error {
	m, ok := machineNamed(args[0])
	if !ok {
		return fmt.Errorf("supervise %q: unknown machine", args[0])
	}
	s := supervisor{machine: m, log: log.New(os.Stderr, "", log.Ltime|log.Lmicroseconds), ended: make(chan string)}
	start := s.startControl
	if m.isNode() {
		start = s.startNode
	}
	if err := start(); err != nil {
		s.log.Printf("FAILED: %v", err)
	} else {
		s.log.Print("all daemons run")
	}
	for end := range s.ended {
		s.log.Print(end)
	}
	return nil
}

type supervisor struct {
	machine machine
	log     *log.Logger
	ended   chan string
}

func (s supervisor) startControl() error {
	etcd := daemon{"etcd", etcdFlags()}
	server := daemon{"kube-apiserver", apiServerFlags(s.machine)}
	if err := errors.Join(s.start(etcd), s.start(server)); err != nil {
		return err
	}
	if err := s.waitForAPIServer(); err != nil {
		return err
	}
	return errors.Join(
		s.start(daemon{"kube-controller-manager", controllerFlags()}),
		s.start(daemon{"kube-scheduler", schedulerFlags()}),
	)
}

func (s supervisor) startNode() error {
	if err := s.run("nft", "-f", "/etc/nftables.conf"); err != nil {
		return err
	}
	if err := s.start(daemon{"containerd", []string{"--config=/etc/containerd/config.toml"}}); err != nil {
		return err
	}
	if err := s.importImages(); err != nil {
		return err
	}
	// Only now: the cluster pulls nothing, so a pod that comes before its image would wait for kubelet's next try.
	if err := s.waitForAPIServer(); err != nil {
		return err
	}
	if err := s.start(daemon{"kubelet", kubeletFlags(s.machine)}); err != nil {
		return err
	}
	return s.start(daemon{"kube-proxy", proxyFlags()})
}

// start runs a daemon with its own log.
func (s supervisor) start(d daemon) error {
	output, err := os.Create(filepath.Join(logDir, d.name+".log"))
	if err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	defer output.Close()
	path := filepath.Join(binDir, d.name)
	if !exists(path) { // ours, or Debian's
		path = d.name
	}
	cmd := exec.Command(path, d.flags...)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	s.log.Printf("started %s", d.name)
	go s.watch(d.name, cmd)
	return nil
}

func (s supervisor) watch(name string, cmd *exec.Cmd) {
	_ = cmd.Wait() // says less than the state
	s.ended <- fmt.Sprintf("%s ENDED: %s", name, cmd.ProcessState)
}

func (s supervisor) importImages() error {
	ready := func() error { return s.run("ctr", "version") }
	if err := eventually(20*time.Second, ready); err != nil {
		return err
	}
	archives, err := filepath.Glob(imagesDir + "/*.tar")
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if err := s.run("ctr", "--namespace=k8s.io", "images", "import", archive); err != nil {
			return err
		}
	}
	s.log.Print("images imported")
	return nil
}

func (s supervisor) run(name string, args ...string) error {
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("run %s %v: %w: %s", name, args, err, output)
	}
	return nil
}

func (s supervisor) waitForAPIServer() error {
	authority, err := os.ReadFile(pkiDir + "/ca.crt")
	if err != nil {
		return fmt.Errorf("wait for the API server: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	return eventually(2*time.Minute, func() error {
		answer, err := client.Get(apiServerURL + "/readyz") // which anybody may ask
		if err != nil {
			return fmt.Errorf("wait for the API server: %w", err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("wait for the API server: %s", answer.Status)
		}
		return nil
	})
}

// eventually calls try until it works, and returns its last error when that took too long.
func eventually(patience time.Duration, try func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if err := try(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// kubeParts are the names under which kube/main.go knows its parts; each is a link to the one binary.
func kubeParts() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}
}

// binary is a Go program that the cluster runs, kept in the cache under a hash of all that it is made of.
type binary struct {
	name string
	dir  string // its source
	out  string
	vars string // for the linker
}

// binaries are all that we compile; kube takes minutes.
type binaries struct {
	kube, coredns, pause, tools binary
}

func (p places) binaries() (binaries, error) {
	all := binaries{
		kube:    binary{name: "kube", dir: p.source("kube"), vars: kubeVersionVars()},
		coredns: binary{name: "coredns", dir: p.source("coredns")},
		pause:   binary{name: "pause", dir: p.source("pause")},
		tools:   binary{name: "tools", dir: p.source("tools")},
	}
	for _, b := range []*binary{&all.kube, &all.coredns, &all.pause, &all.tools} {
		key, err := b.key()
		if err != nil {
			return binaries{}, fmt.Errorf("build %s: %w", b.name, err)
		}
		b.out = filepath.Join(p.cache, b.name+"-"+key, b.name)
	}
	return all, nil
}

// parts is the folder of kube with a link for each part.
func (b binaries) parts() string { return filepath.Dir(b.kube.out) }

// key changes with the sources, the modules and the compiler. The modules' own content is pinned by go.sum.
func (b binary) key() (string, error) {
	version, err := exec.Command("go", "-C", b.dir, "env", "GOVERSION", "GOARCH").Output()
	if err != nil {
		return "", fmt.Errorf("ask go for its version: %w", err)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\n%s\n", version, b.vars)
	files, err := filepath.Glob(filepath.Join(b.dir, "*.*"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %x\n", filepath.Base(file), sha256.Sum256(content))
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], nil
}

// build makes what is missing: packages, binaries, links, images. It is quick and quiet when nothing is.
func build(p places) error {
	steps := progress{start: time.Now()}
	if err := installPackages(p); err != nil {
		return err
	}
	all, err := p.binaries()
	if err != nil {
		return err
	}
	for _, b := range []binary{all.kube, all.coredns, all.pause, all.tools} {
		if exists(b.out) {
			continue
		}
		steps.say("building %s", b.name)
		if err := b.build(); err != nil {
			return fmt.Errorf("build %s: %w", b.name, err)
		}
	}
	for _, part := range kubeParts() {
		if err := link("kube", filepath.Join(all.parts(), part)); err != nil {
			return fmt.Errorf("build kube: %w", err)
		}
	}
	if err := buildImages(p, steps); err != nil {
		return err
	}
	if err := link(filepath.Join(all.parts(), "kubectl"), p.kubectl()); err != nil {
		return fmt.Errorf("link kubectl: %w", err)
	}
	return nil
}

func (b binary) build() error {
	if err := os.MkdirAll(filepath.Dir(b.out), 0o755); err != nil {
		return err
	}
	// Other tests run meanwhile on the same cores. Without DWARF the linker of kube needs half a gigabyte less.
	cmd := exec.Command("nice", "-n", "5", "go", "-C", b.dir, "build", "-buildvcs=false", "-trimpath", "-gcflags=all=-dwarf=false",
		"-ldflags", "-s -w "+b.vars, "-o", b.out+".new", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	return os.Rename(b.out+".new", b.out)
}

// kubeVersionVars tells Kubernetes which version it is: built as a module it calls itself v0.0.0, and kubectl complains.
func kubeVersionVars() string {
	var vars strings.Builder
	major, rest, _ := strings.Cut(strings.TrimPrefix(kubernetesVersion, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		fmt.Fprintf(&vars, "-X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean ",
			pkg, kubernetesVersion, major, minor)
	}
	return vars.String()
}

func installPackages(p places) error {
	cmd := exec.Command(filepath.Join(p.repo, "test/packages"), "cluster")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("install packages: %w", err)
	}
	return nil
}

// link makes name a symbolic link to target, whatever it was before.
func link(target, name string) error {
	if now, err := os.Readlink(name); err == nil && now == target {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(target, name)
}

// progress prints steps with the seconds since the first.
type progress struct{ start time.Time }

func (p progress) say(format string, args ...any) {
	p.to(os.Stderr, format, args...)
}

func (p progress) to(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "%7.1f s  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

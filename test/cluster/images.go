package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/magpie-k8s/magpie/test/cluster/image"
)

const (
	pauseImage   = "magpie.test/pause:1"
	corednsImage = "magpie.test/coredns:1"
	toolsImage   = "magpie.test/tools:1" // busybox under all its names, get, lookup
	busybox      = "/bin/busybox"        // Debian's busybox-static
)

// buildImages makes the images that each node has from the start, where the cache has not those of just these binaries.
func buildImages(p places, steps progress) error {
	dir, err := p.images()
	if err != nil {
		return err
	}
	if exists(dir) {
		return nil
	}
	steps.say("building images")
	images, err := p.baseImages()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir+".new", 0o755); err != nil {
		return fmt.Errorf("build images: %w", err)
	}
	for _, i := range images {
		base, _, _ := strings.Cut(filepath.Base(i.Name), ":")
		if err := i.Write(filepath.Join(dir+".new", base+".tar")); err != nil {
			return err
		}
	}
	return os.Rename(dir+".new", dir)
}

// images is the folder of the base images, named after all that is in them.
func (p places) images() (string, error) {
	all, err := p.binaries()
	if err != nil {
		return "", err
	}
	box, err := os.ReadFile(busybox)
	if err != nil {
		return "", fmt.Errorf("build images: %w", err)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "2\n%s\n%s\n%s\n", all.coredns.out, all.pause.out, all.tools.out) // the number changes with baseImages
	sum.Write(box)
	return filepath.Join(p.cache, "images-"+hex.EncodeToString(sum.Sum(nil))[:12]), nil
}

func (p places) baseImages() ([]image.Image, error) {
	all, err := p.binaries()
	if err != nil {
		return nil, err
	}
	tools := image.Image{Name: toolsImage, Command: []string{"/bin/sh"}, Entries: []image.Entry{
		{Path: busybox, Source: busybox},
		{Path: "/usr/local/bin/get", Source: all.tools.out},
		{Path: "/usr/local/bin/lookup", Link: "get"},
	}}
	names, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list the names of %s: %w", busybox, err)
	}
	for name := range strings.FieldsSeq(string(names)) {
		if name != "busybox" && name != "wget" { // which dies of a name in its URL
			tools.Entries = append(tools.Entries, image.Entry{Path: "/bin/" + name, Link: busybox})
		}
	}
	return []image.Image{
		{Name: pauseImage, Entrypoint: []string{"/pause"}, User: "65535:65535", Entries: []image.Entry{{Path: "/pause", Source: all.pause.out}}},
		{Name: corednsImage, Entrypoint: []string{"/coredns"}, Entries: []image.Entry{{Path: "/coredns", Source: all.coredns.out}}},
		tools,
	}, nil
}

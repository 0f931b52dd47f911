package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// The running cluster is known by these names; there can be one per host.
const (
	stateDir   = "/run/magpie-cluster"
	cgroupName = "magpie-cluster"
	hostLink   = "magpie-cluster"
	fabricName = "magpie-fabric" // in /run/netns
	bridgeName = "br0"           // in there
)

// places are the folders of whoever called, found before sudo and after it alike.
type places struct {
	repo  string // the clone
	cache string // what is worth keeping between clones: binaries and images
}

func findPlaces() (places, error) {
	dir, err := os.Getwd()
	if err != nil {
		return places{}, fmt.Errorf("find the repository: %w", err)
	}
	repo := dir
	for !exists(filepath.Join(repo, "test/cluster/go.mod")) {
		if repo = filepath.Dir(repo); repo == "/" {
			return places{}, fmt.Errorf("find the repository above %s: %w", dir, fs.ErrNotExist)
		}
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return places{}, fmt.Errorf("find the cache: %w", err)
	}
	return places{repo: repo, cache: filepath.Join(base, "magpie/cluster")}, nil
}

func (p places) source(path string) string { return filepath.Join(p.repo, "test/cluster", path) }

// local is the clone's own folder: kubeconfig, bin/kubectl, logs. It outlives the cluster and is not committed.
func (p places) local(path string) string { return filepath.Join(p.repo, ".cache/cluster", path) }

func (p places) kubeconfig() string { return p.local("kubeconfig") }
func (p places) kubectl() string    { return p.local("bin/kubectl") }

// handOver gives what root made in the clone to the one who called sudo.
func (p places) handOver() error {
	uid, errUID := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, errGID := strconv.Atoi(os.Getenv("SUDO_GID"))
	if errUID != nil || errGID != nil {
		return nil
	}
	paths := []string{filepath.Join(p.repo, ".cache")}
	err := filepath.WalkDir(p.local(""), func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	for _, path := range paths {
		err = errors.Join(err, os.Lchown(path, uid, gid))
	}
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

package main

import (
	"errors"
	"os"
)

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

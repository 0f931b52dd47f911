package main

import (
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"
)

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

package main

import "fmt"

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

package main

import (
	"fmt"
	"os"
)

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

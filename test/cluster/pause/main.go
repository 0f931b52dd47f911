// Package main is the first process of each pod of the test cluster: it holds the pod's namespaces and does nothing else.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// Where a pod shares one PID namespace this is its init: a parent that ignores SIGCHLD gets no zombies (wait(2), NOTES).
	signal.Ignore(syscall.SIGCHLD)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
}

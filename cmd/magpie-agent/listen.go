package main

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/magpie-k8s/magpie/agent"
)

// listener opens what the flags name.
func (s *serving) listener() (agent.Listener, error) {
	switch {
	case s.listen != "" && (s.socket != "" || s.socketFD >= 0):
		return nil, fmt.Errorf("--listen and --socket exclude each other")
	case s.listen != "":
		return listen(s.listen)
	case s.socket != "":
		return listen("unix:" + s.socket)
	case s.socketFD >= 0:
		return inherited(s.socketFD)
	}
	return nil, fmt.Errorf("name where to listen with --listen or --socket")
}

// listen opens tcp:HOST:PORT or unix:PATH.
func listen(where string) (agent.Listener, error) {
	network, addr, _ := strings.Cut(where, ":")
	if network != "tcp" && network != "unix" || addr == "" {
		return nil, fmt.Errorf("listen on %q: it is neither tcp:HOST:PORT nor unix:PATH", where)
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	return l.(agent.Listener), nil // both kinds are
}

// inherited makes a listener of a descriptor.
func inherited(fd int) (agent.Listener, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	unix, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("socket: descriptor %d is no unix socket", fd)
	}
	return unix, nil
}

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/magpie-k8s/magpie/wire"
)

// notGreeted says why no link came of a pipe.
func (s *Session) notGreeted(at place, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = &wire.Error{Errno: syscall.ETIMEDOUT, Cause: fmt.Sprintf("no answer for %v", helloTimeout)}
	} else {
		err, _ = at.lost(err)
	}
	e := wire.AsError(err)
	e.Cause = "agent: " + e.Cause
	switch {
	case e.Advice != "":
	case s.cfg.Socket != "":
		e.Advice = "is it an agent of this version that serves on " + s.cfg.Socket + "? Without --agent, magpie finds or starts one"
	default:
		e.Advice = "start again: it may have been about to leave"
	}
	return e
}

// gone returns an error if the target is on this host and is no more. An agent that goes with its target has
// no time for last words.
func (h *here) gone() error {
	if h.cfg.Socket != "" {
		return nil // it may be on any host
	}
	kind, name, _ := strings.Cut(h.cfg.Target, "/")
	switch {
	case kind == "pid" && ended(name):
		return &wire.Error{Errno: syscall.ESRCH, Cause: h.cfg.Target + " has ended", Advice: "is something restarting it? netns/NAME stays when a process ends"}
	case kind == "netns" && missing(filepath.Join("/run/netns", name)):
		return &wire.Error{Errno: syscall.ENOENT, Cause: h.cfg.Target + " is gone", Advice: "ip netns list says what there is"}
	}
	return nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// ended reports whether a process is gone, or waits for its parent to notice.
func ended(pid string) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
	}
	// The state follows the name, in which anything may stand: proc_pid_stat(5).
	state := bytes.TrimSpace(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(state) > 0 && bytes.IndexByte([]byte("ZXx"), state[0]) >= 0
}

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

// notGreeted says why no session came of a pipe.
func (s *Session) notGreeted(err error) error {
	e := wire.AsError(s.explain(err))
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

// explain returns what is behind an error of a call or of the carrier: the target that went, the carrier that broke.
func (s *Session) explain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &wire.Error{Errno: syscall.ETIMEDOUT, Cause: fmt.Sprintf("no answer for %v", helloTimeout)}
	}
	if gone := s.targetGone(); gone != nil {
		return gone
	}
	if broken := s.carrier.Err(); broken != nil {
		return broken
	}
	return err
}

// targetGone returns an error if the target is on this host and is no more. An agent that goes with its target has
// no time for last words.
func (s *Session) targetGone() error {
	if s.cfg.Socket != "" {
		return nil // it may be on any host
	}
	kind, name, _ := strings.Cut(s.cfg.Target, "/")
	switch {
	case kind == "pid" && ended(name):
		return &wire.Error{Errno: syscall.ESRCH, Cause: s.cfg.Target + " has ended", Advice: "is something restarting it? netns/NAME stays when a process ends"}
	case kind == "netns" && missing(filepath.Join("/run/netns", name)):
		return &wire.Error{Errno: syscall.ENOENT, Cause: s.cfg.Target + " is gone", Advice: "ip netns list says what there is"}
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

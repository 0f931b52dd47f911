package main

import (
	"bufio"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A session is a magpie exec, and when it said what.
type session struct {
	cmd   *exec.Cmd
	began time.Time
	lines chan said
	all   []said
}

type said struct {
	line string
	when time.Time
}

func start(cmd *exec.Cmd) (*session, error) {
	out, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	s := &session{cmd: cmd, began: time.Now(), lines: make(chan said, 1000)}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			select {
			case s.lines <- said{lines.Text(), time.Now()}:
			default: // nobody asks any more
			}
		}
	}()
	return s, nil
}

// ready waits until requests come to the developer.
func (s *session) ready() (time.Time, error) { return s.wait("ready") }

// wait returns when the session said a line with these words.
func (s *session) wait(words string) (time.Time, error) {
	for _, l := range s.all {
		if strings.Contains(l.line, words) {
			return l.when, nil
		}
	}
	patience := time.After(startTimeout)
	for {
		select {
		case l, ok := <-s.lines:
			if !ok {
				return time.Time{}, fmt.Errorf("magpie ended without %q: %s", words, s.text())
			}
			s.all = append(s.all, l)
			if strings.Contains(l.line, words) {
				return l.when, nil
			}
		case <-patience:
			return time.Time{}, fmt.Errorf("magpie did not say %q: %s", words, s.text())
		}
	}
}

func (s *session) text() string {
	var lines []string
	for _, l := range s.all {
		lines = append(lines, l.line)
	}
	return strings.Join(lines, "\n")
}

// end ends the session as Ctrl-C does, with its command. It may be called twice.
func (s *session) end() {
	if s.cmd.ProcessState != nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT)
	timer := time.AfterFunc(endTimeout, func() { _ = s.cmd.Process.Kill() })
	defer timer.Stop()
	if err := s.cmd.Wait(); errors.Is(err, exec.ErrWaitDelay) {
		_ = s.cmd.Process.Kill()
	}
}

// Package testrun runs a program under test as a user would, and waits for what it says. It never leaves one running.
package testrun

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience bounds every wait for what should come soon.
const Patience = 15 * time.Second

// lastWords is how long what a program said may take to be read after its end. Children of it may hold its output open.
const lastWords = 200 * time.Millisecond

// A Program is one that runs under test.
type Program struct {
	Cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced when a line comes
}

// Start starts the command by launch, which may do it in another namespace; nil is cmd.Start. Its output is kept; it is ended
// with the test.
func Start(tb testing.TB, cmd *exec.Cmd, launch func() error) *Program {
	tb.Helper()
	p := &Program{Cmd: cmd, done: make(chan struct{}), more: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true // a group of its own, as a shell makes, and no terminal of whoever runs the tests
	if launch == nil {
		launch = cmd.Start
	}
	err = launch()
	w.Close()
	if err != nil {
		tb.Fatal(err)
	}
	all := make(chan struct{})
	go func() {
		p.read(r)
		close(all)
	}()
	go func() {
		p.err = cmd.Wait()
		select {
		case <-all:
		case <-time.After(lastWords):
		}
		close(p.done)
	}()
	tb.Cleanup(func() {
		p.Stop(tb)
		if tb.Failed() {
			tb.Logf("%s:\n%s", strings.Join(cmd.Args, " "), p.Output())
		}
	})
	return p
}

func (p *Program) read(r *os.File) {
	defer r.Close()
	for s := bufio.NewScanner(r); s.Scan(); {
		p.mu.Lock()
		p.lines = append(p.lines, s.Text())
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
}

// Output is what it has said so far.
func (p *Program) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// WaitFor waits for a line with the text and returns it.
func (p *Program) WaitFor(tb testing.TB, text string) string {
	tb.Helper()
	timeout := time.After(Patience)
	for seen := 0; ; {
		p.mu.Lock()
		for ; seen < len(p.lines); seen++ {
			if strings.Contains(p.lines[seen], text) {
				defer p.mu.Unlock()
				return p.lines[seen]
			}
		}
		more := p.more
		p.mu.Unlock()
		select {
		case <-more:
		case <-p.done:
			select {
			case <-more: // the last lines
			case <-time.After(100 * time.Millisecond):
				tb.Fatalf("the program ended (%v) without %q:\n%s", p.err, text, p.Output())
			}
		case <-timeout:
			tb.Fatalf("the program did not say %q:\n%s", text, p.Output())
		}
	}
}

// Interrupt is a Ctrl-C: the terminal signals the whole group.
func (p *Program) Interrupt() { _ = syscall.Kill(-p.Cmd.Process.Pid, syscall.SIGINT) }

// Stop ends it as a user would, and waits.
func (p *Program) Stop(tb testing.TB) {
	tb.Helper()
	select {
	case <-p.done:
		return
	default:
	}
	p.Interrupt()
	select {
	case <-p.done:
	case <-time.After(Patience):
		_ = syscall.Kill(-p.Cmd.Process.Pid, syscall.SIGKILL)
		tb.Errorf("the program did not end on Ctrl-C:\n%s", p.Output())
	}
}

// Status waits for the exit status.
func (p *Program) Status(tb testing.TB) int {
	tb.Helper()
	select {
	case <-p.done:
	case <-time.After(Patience):
		tb.Fatalf("the program did not end:\n%s", p.Output())
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	if p.err != nil {
		tb.Fatal(p.err)
	}
	return 0
}

// Eventually tries until it works, for as long as Patience lasts.
func Eventually(tb testing.TB, try func() error) {
	tb.Helper()
	deadline := time.Now().Add(Patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

package layer_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var puppet = program{name: "puppet", debian: "python3", args: []string{"/usr/bin/python3", "SCRATCH/life.py"}}

// do tells the puppet what to do and expects what comes of it.
func (l *local) do(tb testing.TB, order, want string) {
	tb.Helper()
	l.say(tb, order)
	l.expect(tb, want)
}

func (w *world) mustStartPuppet(tb testing.TB, change ...func(*supervision)) *local {
	tb.Helper()
	l := w.mustStart(tb, puppet.command(tb), change...)
	l.expect(tb, "ready")
	return l
}

func TestClosedListenerGivesItsPortBackAtOnce(t *testing.T) {
	w := mustWorld(t)
	for _, how := range []struct{ order, result string }{{"unlisten", "closed"}, {"shutdown", "shut down"}} {
		t.Run(how.order, func(t *testing.T) {
			l := w.mustStartPuppet(t)
			w.net.mustRefuse(t, clientV4, podV4+":80")
			l.do(t, "bind 80", "bound")
			w.net.mustRefuse(t, clientV4, podV4+":80") // bound is not listening
			l.do(t, "listen", "listening")
			c, err := w.net.dial(clientV4, podV4+":80")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			l.do(t, "accept", "accepted")

			l.do(t, how.order, how.result)
			w.net.mustRefuse(t, clientV4, podV4+":80")
			fmt.Fprint(c, "still there?") // The live connection goes on.
			l.do(t, "echo", "echoed")
			buf := make([]byte, 100)
			c.SetDeadline(time.Now().Add(patience))
			if n, err := c.Read(buf); string(buf[:n]) != "still there?" {
				t.Errorf("live connection: %q, %v", buf[:n], err)
			}

			l.do(t, "listen 80", "listening") // and once more
			again, err := w.net.dial(clientV4, podV4+":80")
			if err != nil {
				t.Fatal("dial after the second listen:", err)
			}
			again.Close()
			l.do(t, "accept", "accepted")
		})
	}
}

func TestDeadProgramGivesItsPortBack(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStartPuppet(t)
	l.do(t, "listen 80", "listening")
	l.say(t, "leave 9")
	l.mustEnd(t, 9)
	w.net.mustRefuse(t, clientV4, podV4+":80")
}

func TestPortThatThePodRefusesIsRefusedToTheProgram(t *testing.T) {
	w := mustWorld(t)
	w.pod.mustListen(t, ":80")
	l := w.mustStartPuppet(t)
	l.do(t, "bind 80", "bound")
	l.do(t, "listen", "EADDRINUSE")
}

func TestExitStatusIsTheProgramsOwn(t *testing.T) {
	w := mustWorld(t)
	folder := mustFolder(t)
	plain := filepath.Join(folder, "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		argv   []string
		status int
	}{
		{[]string{"true"}, 0},
		{[]string{"sh", "-c", "exit 7"}, 7},
		{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15},
		{[]string{"sh", "-c", "kill -KILL $$"}, 128 + 9},
		{[]string{"magpie-has-no-such-program"}, 127},
		{[]string{"/no/such/program"}, 127},
		{[]string{plain}, 126},
	} {
		t.Run(strings.Join(c.argv, " "), func(t *testing.T) { w.mustStart(t, c.argv).mustEnd(t, c.status) })
	}
}

func TestInterruptReachesTheProgramAlone(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStart(t, python.command(t, `
import sys, time
try:
    print("ready", flush=True)
    while True: time.sleep(0.05) # a pause would not end by a signal that came just before
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.readline()
sys.exit(3)
`))
	l.expect(t, "ready")
	if err := syscall.Kill(-l.Process.Pid, syscall.SIGINT); err != nil { // as a terminal does: to the whole group
		t.Fatal(err)
	}
	l.expect(t, "interrupted")
	l.say(t, "go on") // the program decides when to end, and the supervisor is still there for it
	l.mustEnd(t, 3)
}

func TestTerminationReachesTheProgram(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStart(t, shell.command(t, `trap 'echo terminated; exit 4' TERM; echo ready; while :; do sleep 0.05; done`))
	l.expect(t, "ready")
	if err := l.Process.Signal(syscall.SIGTERM); err != nil { // as a service manager does: to the supervisor
		t.Fatal(err)
	}
	l.expect(t, "terminated")
	l.mustEnd(t, 4)
}

func TestTerminalBelongsToTheProgram(t *testing.T) {
	w := mustWorld(t)
	terminal, tty := mustTerminal(t)
	sv := supervision{Args: python.command(t, `
import os, sys
print("terminal", os.isatty(0), os.isatty(1), os.isatty(2), os.tcgetpgrp(0) == os.getpgrp(), os.get_terminal_size().columns)
line = sys.stdin.readline().strip()
try:
    print("you said", line, flush=True)
    sys.stdin.readline()
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(5)
`), Dir: mustFolder(t), Files: podFiles, Broker: w.mustBroker(t), Env: []string{"PATH=/usr/bin:/bin", "TERM=xterm"}}
	cmd := supervisorCommand(t, sv)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = false, true, true
	if err := w.host.do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	t.Cleanup(func() { cmd.Process.Kill() })
	l := &local{lines: make(chan string, 100), done: make(chan struct{}), Cmd: cmd}
	go l.read(terminal)
	l.expect(t, "terminal True True True True 132")
	fmt.Fprintln(terminal, "hello")
	l.expect(t, "hello", "you said hello") // the first by the terminal's own echo
	terminal.Write([]byte{3})              // Ctrl-C
	l.expect(t, "^Cinterrupted")
	l.mustEnd(t, 5)
}

// mustTerminal makes a pseudo-terminal of 132 columns.
func mustTerminal(tb testing.TB) (terminal, tty *os.File) {
	tb.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { terminal.Close() })
	fd := int(terminal.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		tb.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 132}); err != nil {
		tb.Fatal(err)
	}
	name := fmt.Sprintf("/dev/pts/%d", n)
	if tty, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		tb.Fatal(err)
	}
	if err := os.Chown(name, developer, developer); err != nil {
		tb.Fatal(err)
	}
	return terminal, tty
}

func TestDaemonIsServedAfterTheProgramHasEnded(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStartPuppet(t)
	l.do(t, "daemon 80", "left behind")
	l.say(t, "leave 6")
	w.net.mustBeServedSoon(t, clientV4, podV4+":80")
	l.mustEnd(t, 6) // when the daemon has ended, too
}

// mustBeServedSoon waits for somebody to listen.
func (s *space) mustBeServedSoon(tb testing.TB, from, addr string) {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; {
		c, err := s.dial(from, addr)
		if err == nil {
			defer c.Close()
			want := fmt.Sprintf("peer %v local %v", c.LocalAddr(), addr)
			if got := ask(c); got != want {
				tb.Errorf("got  %s\nwant %s", got, want)
			}
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal(err)
		}
	}
}

func TestKilledSupervisorLeavesNoProcess(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStartPuppet(t)
	l.do(t, "listen 80", "listening")
	l.say(t, "spawn")
	pids := strings.Fields(l.mustLine(t))
	if len(pids) != 4 {
		t.Fatalf("pids %q", pids)
	}
	var watched []unix.PollFd
	for _, p := range pids {
		pid, err := strconv.Atoi(p)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatalf("pidfd of %d: %v", pid, err)
		}
		defer unix.Close(fd)
		watched = append(watched, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	if err := l.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for i := range watched {
		n, err := unix.Poll(watched[i:i+1], int(patience.Milliseconds()))
		for err == unix.EINTR {
			n, err = unix.Poll(watched[i:i+1], int(patience.Milliseconds()))
		}
		if n != 1 {
			t.Errorf("process %s lives on: %v", pids[i], err)
		}
	}
	w.net.mustRefuse(t, clientV4, podV4+":80")
}

// With a name service daemon on the host, glibc would ask it before any file or server of the pod's.
func TestNameServiceDaemonsOfTheHostAreNotAsked(t *testing.T) {
	w := mustWorld(t)
	sockets := []string{"/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve", "/run/avahi-daemon/socket"}
	l := w.mustStartPuppet(t, func(sv *supervision) {
		sv.prepare = func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
				return err
			}
			for _, s := range append(sockets, "/run/another") {
				if err := os.MkdirAll(filepath.Dir(s), 0o755); err != nil {
					return err
				}
				listener, err := net.Listen("unix", s)
				if err != nil {
					return err
				}
				t.Cleanup(func() { listener.Close() })
				if err := os.Chmod(s, 0o666); err != nil {
					return err
				}
			}
			return nil
		}
	})
	for _, s := range sockets {
		l.do(t, "unix "+s, "ENOENT")
	}
	l.do(t, "unix /var/run/nscd/socket", "ENOENT")
	l.do(t, "unix /run/another", "connected")
}

// Where there is no pod to reach, there is no network: not even one that the host could reach itself.
func TestNothingLeavesThroughTheHostsNetwork(t *testing.T) {
	w := mustWorld(t)
	w.host.mustIP(t, "addr add "+webV4+"/32 dev lo", "addr add "+webV6+"/128 dev lo")
	for _, a := range []string{webV4, webV6} {
		w.host.mustListen(t, net.JoinHostPort(a, "80"))
		go answerDatagrams(w.host.mustListenUDP(t, net.JoinHostPort(a, "7")), func(b []byte) []byte { return b })
	}
	var probes, want []string
	for _, p := range []string{"connect 198.18.0.20 80", "connect fd18::20 80", "nonblock 198.18.0.20 80", "converse 198.18.0.20 7", "converse fd18::20 7"} {
		probes, want = append(probes, p), append(want, p+": ENETUNREACH")
	}
	probes, want = append(probes, "send 198.18.0.20 7"), append(want, "send 198.18.0.20 7: gave up") // lost, as datagrams are
	l := w.mustStart(t, pythonClient.command(t, probes...), func(sv *supervision) { sv.Broker = "/no/such/broker" })
	expectProbes(t, l, want)
}

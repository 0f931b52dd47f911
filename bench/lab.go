package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Where things listen in the target's namespace.
const (
	targetIP  = "198.18.77.2"
	clientIP  = "198.18.77.1"
	original  = targetIP + ":8080" // claimed
	directAt  = targetIP + ":8079" // the same server, where nobody claims; what the rivals pass to
	haproxyAt = targetIP + ":8081"
	nginxAt   = targetIP + ":8082"
)

// ours is the header of the requests that are stolen.
const ours = "x-user: me"

const (
	startTimeout = 10 * time.Second
	endTimeout   = 3 * time.Second
)

// lab is a target with an original, two rivals and an agent, a client, and a developer's machine without any way to them but
// the agent's socket: three namespaces of its own.
type lab struct {
	target, client, home string // namespaces
	dir                  string
	original             *exec.Cmd
	direct               *exec.Cmd // where nobody claims, if that is another process
	haproxy              *exec.Cmd
	nginx                *exec.Cmd
	nghttpx              *exec.Cmd
	agent                *exec.Cmd
	session              *exec.Cmd
	local                int    // process of the local server, a child of session
	idle                 memory // before any load
	undo                 []func()
}

// openLab makes the namespaces and then starts what is to be in them.
func openLab(ctx context.Context, starts ...func(context.Context, *lab) error) (_ *lab, err error) {
	dir, err := os.MkdirTemp("", "magpie-bench-")
	if err != nil {
		return nil, err
	}
	tag := "bench-" + strconv.Itoa(os.Getpid())
	l := &lab{target: tag + "-target", client: tag + "-client", home: tag + "-home", dir: dir}
	l.undo = append(l.undo, func() { _ = os.RemoveAll(dir) })
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if err := l.openNetwork(ctx); err != nil {
		return nil, err
	}
	for _, start := range starts {
		if err := start(ctx, l); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// close ends all processes and takes the namespaces away, in reverse order.
func (l *lab) close() {
	for i := len(l.undo) - 1; i >= 0; i-- {
		l.undo[i]()
	}
	l.undo = nil
}

func (l *lab) openNetwork(ctx context.Context) error {
	for _, ns := range []string{l.target, l.client, l.home} {
		// Noted first: ip may have been interrupted with its work done.
		l.undo = append(l.undo, func() { _ = ip(context.Background(), "netns del "+ns) })
		if err := ip(ctx, "netns add "+ns); err != nil {
			return err
		}
		if err := ip(ctx, "-n "+ns+" link set lo up"); err != nil {
			return err
		}
	}
	for _, args := range []string{
		"link add eth0 netns " + l.target + " type veth peer name eth0 netns " + l.client,
		"-n " + l.target + " addr add " + targetIP + "/24 dev eth0", "-n " + l.client + " addr add " + clientIP + "/24 dev eth0",
		"-n " + l.target + " link set eth0 up", "-n " + l.client + " link set eth0 up",
	} {
		if err := ip(ctx, args); err != nil {
			return err
		}
	}
	return nil
}

func ip(ctx context.Context, args string) error {
	if out, err := exec.CommandContext(ctx, "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, out)
	}
	return nil
}

// start runs a command until close; it is ended even if we are killed.
func (l *lab) start(argv ...string) (*exec.Cmd, error) {
	log, err := os.Create(filepath.Join(l.dir, fmt.Sprintf("log-%d", len(l.undo))))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	// In a group of its own, because a terminal's Ctrl-C is for us: close ends it in its turn.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	l.undo = append(l.undo, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(endTimeout, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		_ = cmd.Wait() // with the status of a signal
	})
	return cmd, nil
}

// within is a command in a namespace. ip executes it in its own place, so the process that we measure is the command's.
func within(namespace string, argv ...string) []string {
	return append([]string{"ip", "netns", "exec", namespace}, argv...)
}

// A cpu is where a process is to run. All proxies run on the same one, and what is at both ends of every way on another,
// because where the scheduler puts four processes on few CPUs decides more than what they do.
type cpu int

const (
	endCPU   cpu = 0
	proxyCPU cpu = 1
)

func (c cpu) pin(argv ...string) []string {
	return append([]string{"taskset", "-c", strconv.Itoa(int(c) % runtime.NumCPU())}, argv...)
}

// ask makes one request from the client's namespace and returns the answer with its head.
func (l *lab) ask(ctx context.Context, at, header string, flags ...string) (string, error) {
	argv := within(l.client, append([]string{"curl", "-sS", "-i", "-m", "2", "http://" + at + "/"}, flags...)...)
	if header != "" {
		argv = append(argv, "-H", header)
	}
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", at, err, out)
	}
	return string(out), nil
}

// answered waits until a server answers with what is expected.
func (l *lab) answered(ctx context.Context, at, header, by string) error {
	return eventually(ctx, func() error {
		said, err := l.ask(ctx, at, header)
		if err == nil && !strings.Contains(strings.ToLower(said), "\r\nx-who: "+by+"\r\n") { // HAProxy lowers case
			err = fmt.Errorf("%s: not answered by the %s but: %s", at, by, said)
		}
		return err
	})
}

// eventually tries until it works or startTimeout is over.
func eventually(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Package target finds whom an agent stands beside: the network namespace, a process that speaks for it, its cgroup, its files. It only looks: it
// never changes anything of the target.
package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/netns"
)

// A Target is one that was found. It is safe for concurrent use; whoever found it closes it.
type Target struct {
	// Name is as it was asked for: netns/NAME, pid/N, container/ID or none.
	Name string
	NS   *netns.NS
	// PID is a process that speaks for the target: the one asked for; or, in a netns/NAME or container/ID, the oldest that listened on a TCP port when
	// the target was found, else the oldest. 0: nothing ran there.
	PID int
	// Cgroup is the directory of the cgroup v2 that holds all processes of the target; "" if there is none, and CgroupMissing says why. For a
	// container/ID it holds the whole pod.
	Cgroup, CgroupMissing string

	kind  string
	alias string // the NAME of a netns/NAME
	place place  // of a container/ID
	root  *os.File
	seen  sights

	mu      sync.Mutex
	process *process // of PID, or of one that took its place; nil if there is none
}

// sights are what was found when the target was, of a pid/N or container/ID: the process may be gone by the time that somebody asks, and so may our
// right to look.
type sights struct {
	environment []string
	hostname    string
}

// Find looks for a target. Its errors are *Error, with a hint.
func Find(name string) (*Target, error) {
	kind, rest, err := parse(name)
	if err != nil {
		return nil, err
	}
	t := &Target{Name: name, kind: kind}
	switch kind {
	case kindNone:
		err = t.findNone()
	case kindPID:
		err = t.findPID(rest)
	case kindContainer:
		err = t.findContainer(rest)
	case kindNetns:
		err = t.findNetns(rest)
	}
	if err != nil {
		_ = t.Close()
		return nil, explain(name, err)
	}
	return t, nil
}

// findNone makes ourselves the target: what is reached from here is reached from there.
func (t *Target) findNone() (err error) {
	t.CgroupMissing = "there is no target"
	if t.NS, err = netns.Own(); err != nil {
		return err
	}
	t.root, err = ownRoot()
	return err
}

func ownRoot() (*os.File, error) {
	return os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func (t *Target) findPID(number string) error {
	pid, err := strconv.Atoi(number)
	if err != nil || pid <= 0 {
		return &Error{fmt.Sprintf("%q is not a process id", number), syscall.EINVAL, "a target is written pid/4711"}
	}
	if t.process, err = openProcess(pid); err != nil {
		return err
	}
	if t.NS, err = netns.OfPID(pid); err != nil {
		return t.process.orDead(err)
	}
	if err := t.mayEnter(); err != nil {
		return t.process.orDead(err)
	}
	if err := t.lookInside(); err != nil {
		return err
	}
	t.Cgroup, t.CgroupMissing = cgroupOf([]*process{t.process})
	// All of the above was the same process, not one that got its number.
	return t.process.orDead(nil)
}

func (t *Target) findNetns(name string) (err error) {
	t.alias = name
	if t.NS, err = netns.Named("", name); err != nil {
		return noNetns(name, err)
	}
	if err := t.mayEnter(); err != nil {
		return err
	}
	if t.root, err = ownRoot(); err != nil {
		return err
	}
	inside, err := processesIn(t.NS)
	if err != nil {
		return err
	}
	defer closeAll(inside)
	t.Cgroup, t.CgroupMissing = cgroupOf(inside)
	if t.process = t.speaker(inside); t.process != nil {
		t.PID = t.process.pid
	}
	return nil
}

// mayEnter tries what everything else will need, so that a missing right is found before anything is attached.
func (t *Target) mayEnter() error { return t.NS.Do(func() error { return nil }) }

// lookInside takes what is asked for later, of the process that speaks for the target.
func (t *Target) lookInside() (err error) {
	t.PID = t.process.pid
	if t.root, err = t.process.openRoot(); err != nil {
		return t.process.orDead(err)
	}
	if t.seen.environment, err = t.process.environment(); err != nil {
		return t.process.orDead(fmt.Errorf("read its environment: %w", err))
	}
	t.seen.hostname, err = t.liveHostname(t.process)
	return t.process.orDead(err)
}

// speaker takes the process that speaks for a namespace out of those inside; nil if there is none.
func (t *Target) speaker(inside []*process) *process {
	listening, err := t.listeningInodes()
	if err != nil {
		listening = nil // the oldest will do
	}
	best, bestListens := -1, false
	for i, p := range inside {
		listens := p.holdsSocket(listening)
		if best < 0 || listens && !bestListens || listens == bestListens && p.started < inside[best].started {
			best, bestListens = i, listens
		}
	}
	if best < 0 {
		return nil
	}
	p := inside[best]
	inside[best] = nil // ours now
	return p
}

// HasOriginal reports whether there is somebody to stand beside: not for none.
func (t *Target) HasOriginal() bool { return t.kind != kindNone }

// Is reports whether a name means this target.
func (t *Target) Is(name string) bool {
	kind, rest, err := parse(name)
	if err != nil || kind != t.kind || kind != kindContainer {
		return err == nil && name == t.Name
	}
	id, err := containerID(rest)
	return err == nil && strings.HasPrefix(t.place.id, id)
}

// current returns the process that speaks for the target now: in a namespace another one follows when it has ended.
func (t *Target) current() (*process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kind != kindNetns || t.process != nil && t.process.alive() {
		return t.process, nil
	}
	inside, err := processesIn(t.NS)
	if err != nil {
		return nil, err
	}
	defer closeAll(inside)
	if next := t.speaker(inside); next != nil {
		if t.process != nil {
			t.process.close()
		}
		t.process = next
	}
	return t.process, nil
}

// Environment returns the variables of the process that speaks for the target, NAME=value, in its order. There are none where nothing runs.
func (t *Target) Environment() ([]string, error) {
	p, err := t.current()
	if err != nil || p == nil {
		return nil, err
	}
	env, err := p.environment()
	switch {
	case err == nil:
		return env, nil
	case t.outlives(p, err):
		return t.seen.environment, nil
	}
	return nil, fmt.Errorf("read environment of %s: %w", t.Name, p.orDead(err))
}

// outlives reports whether what was seen at first still holds, although a look now failed: we may have given up the right to it, or the container was
// restarted, which changes its processes and not what they are told.
func (t *Target) outlives(p *process, err error) bool {
	switch t.kind {
	case kindContainer:
		return true
	case kindPID:
		return p.alive() && errors.Is(err, fs.ErrPermission)
	}
	return false
}

// Hostname returns the host name that the target sees.
func (t *Target) Hostname() (string, error) {
	p, err := t.current()
	if err == nil && p != nil {
		var name string
		if name, err = t.liveHostname(p); err == nil {
			return name, nil
		}
		if t.outlives(p, err) {
			return t.seen.hostname, nil
		}
	}
	if err != nil && t.kind != kindNetns {
		return "", fmt.Errorf("read host name of %s: %w", t.Name, err)
	}
	return os.Hostname()
}

// liveHostname asks the kernel, or where that needs a right that we do not have, the file that runtimes keep in each container.
func (t *Target) liveHostname(p *process) (string, error) {
	name, err := p.hostname()
	if !errors.Is(err, fs.ErrPermission) {
		return name, err
	}
	f, fileErr := t.Open("/etc/hostname")
	if fileErr != nil {
		return "", err
	}
	defer f.Close()
	b, fileErr := io.ReadAll(io.LimitReader(f, maxHostname+1))
	if fileErr != nil || len(b) == 0 || len(b) > maxHostname {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}

// maxHostname is what sethostname(2) takes, and the end of the line.
const maxHostname = 64 + 1

// Open opens a file for reading as the target would: a pid/N or container/ID in the root directory of its process, and no link leads out of it; a
// netns/NAME on this host, with what is in /etc/netns/NAME in the place of what is in /etc, as ip-netns(8) has it. It does not wait for a writer when it is a fifo.
func (t *Target) Open(path string) (*os.File, error) {
	path = strings.TrimLeft(path, "/")
	if below, ok := strings.CutPrefix(path, "etc/"); ok && t.alias != "" {
		f, err := t.openIn("etc/netns/"+t.alias+"/"+below, path)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return t.openIn(path, path)
}

func (t *Target) openIn(path, name string) (*os.File, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(int(t.root.Fd()), path, how)
		// EAGAIN: something was renamed meanwhile, openat2(2).
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: "/" + name, Err: err}
		}
		return os.NewFile(uintptr(fd), "/"+name), nil
	}
}

// Gone returns a channel that is closed when the target is gone: the process has ended, or nothing is left of the container's pod, or the namespace lost
// its name (or the name another namespace). The channel stays open when ctx ends first.
func (t *Target) Gone(ctx context.Context) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		var err error
		switch t.kind {
		case kindNone:
			return
		case kindPID:
			err = t.process.wait(ctx)
		case kindContainer:
			err = t.waitDeserted(ctx)
		case kindNetns:
			err = t.waitUnnamed(ctx)
		}
		if err == nil {
			close(gone)
		}
	}()
	return gone
}

// Close lets go of the target. It is safe to call twice.
func (t *Target) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	if t.process != nil {
		t.process.close()
	}
	if t.root != nil {
		if err := t.root.Close(); !errors.Is(err, fs.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if t.NS != nil {
		errs = append(errs, t.NS.Close())
	}
	return errors.Join(errs...)
}

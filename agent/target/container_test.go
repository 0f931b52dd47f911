package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// randomID is one that no other test has.
func randomID(tb testing.TB) string {
	tb.Helper()
	f, err := os.Open("/dev/urandom")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, longestID/2)
	if _, err := f.Read(b); err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("%x", b)
}

// mustPod makes the cgroup v2 of a pod as the kubelet with systemd names it.
func mustPod(tb testing.TB) string {
	tb.Helper()
	id := randomID(tb)
	uid := strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:32]}, "_")
	return mustCgroup(tb, testnet.NewCgroup(tb, "").Path, "kubepods-burstable-pod"+uid+".slice").Path
}

func mustCgroup(tb testing.TB, parent, name string) *testnet.Cgroup {
	tb.Helper()
	g := &testnet.Cgroup{Path: filepath.Join(parent, name)}
	if err := os.Mkdir(g.Path, 0o755); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := unix.Rmdir(g.Path); err != nil {
			tb.Errorf("remove %s: %v", g.Path, err)
		}
	})
	return g
}

// mustContainer starts a process in a container's cgroup.
func mustContainer(tb testing.TB, h *testnet.Host, pod, name string, cmd *exec.Cmd) (pid int) {
	tb.Helper()
	mustCgroup(tb, pod, name).Put(tb, cmd)
	return mustStart(tb, h, cmd)
}

func TestContainerIsFoundByItsID(t *testing.T) {
	h := testnet.Lone(t)
	pod := mustPod(t)
	sandbox, shop, side := randomID(t), randomID(t), randomID(t)
	mustContainer(t, h, pod, "cri-containerd-"+sandbox+".scope", original(t, "nowhere"))
	pid := mustContainer(t, h, pod, "cri-containerd-"+shop+".scope", original(t, "127.0.0.1:8080", "WHO=shop"))
	mustContainer(t, h, pod, "cri-containerd-"+side+".scope", original(t, "127.0.0.1:8081", "WHO=side"))
	for _, name := range []string{shop, shop[:shortestID], "containerd://" + shop} {
		found := mustFind(t, "container/"+name)
		if found.PID != pid || found.NS.ID() != h.NS.ID() || found.Cgroup != pod {
			t.Errorf("%s: pid %d in %v, cgroup %s (%s); want %d in %v, %s", name, found.PID, found.NS.ID(), found.Cgroup, found.CgroupMissing, pid, h.NS.ID(), pod)
		}
		if env, err := found.Environment(); err != nil || !slices.Contains(env, "WHO=shop") {
			t.Errorf("environment %q, %v", env, err)
		}
	}
	found := mustFind(t, "container/"+shop)
	neighbours, err := found.Neighbours()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range neighbours {
		names = append(names, n.Name)
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	slices.Sort(names)
	if want := slices.Sorted(slices.Values([]string{"container/" + sandbox, "container/" + side})); !slices.Equal(names, want) {
		t.Errorf("neighbours %v; want %v", names, want)
	}
}

func TestContainerSpeaksThroughWhoListensInIt(t *testing.T) {
	h := testnet.Lone(t)
	pod, id := mustPod(t), randomID(t)
	g := mustCgroup(t, pod, "crio-"+id+".scope")
	inner := mustCgroup(t, g.Path, "container")
	first, listens := original(t, "nowhere", "WHO=init"), original(t, "127.0.0.1:8080", "WHO=shop")
	inner.Put(t, first)
	inner.Put(t, listens)
	mustStart(t, h, first)
	pid := mustStart(t, h, listens)
	if found := mustFind(t, "container/"+id); found.PID != pid || found.Cgroup != pod {
		t.Errorf("%+v; want pid %d", found, pid)
	}
}

func TestContainerIsGoneWithItsPodNotWithItsProcess(t *testing.T) {
	h := testnet.Lone(t)
	pod, shop := mustPod(t), randomID(t)
	sandbox, app := original(t, "nowhere"), original(t, "127.0.0.1:8080", "WHO=shop")
	mustContainer(t, h, pod, "cri-containerd-"+randomID(t)+".scope", sandbox)
	mustContainer(t, h, pod, "cri-containerd-"+shop+".scope", app)
	found := mustFind(t, "container/"+shop)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := found.Gone(ctx)
	mustKill(t, app)
	select {
	case <-gone:
		t.Error("gone although the pod is there")
	default:
	}
	if env, err := found.Environment(); err != nil || !slices.Contains(env, "WHO=shop") {
		t.Errorf("environment of a container that is being restarted: %q, %v", env, err)
	}
	if _, err := found.Hostname(); err != nil {
		t.Error(err)
	}
	mustKill(t, sandbox)
	within(t, "gone", gone)
}

func mustKill(tb testing.TB, cmd *exec.Cmd) {
	tb.Helper()
	if err := cmd.Process.Kill(); err != nil {
		tb.Fatal(err)
	}
	cmd.Wait()
}

// lookEnv makes this test program look for a target, as an agent in a container would, and write what it found.
const lookEnv = "MAGPIE_TEST_LOOK"

type looked struct{ Cgroup, Missing string }

func look(name string) {
	found, err := Find(name)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(looked{found.Cgroup, found.CgroupMissing}); err != nil {
		panic(err)
	}
	found.Close()
}

// An agent in a container of cgroup v2 has a cgroup namespace of its own, and sees the target's cgroup as /../../podUID/ID.
func TestPodIsFoundFromAnotherCgroupNamespace(t *testing.T) {
	h := testnet.Lone(t)
	pod, shop := mustPod(t), randomID(t)
	mustContainer(t, h, pod, "cri-containerd-"+shop+".scope", original(t, "127.0.0.1:8080"))
	other := mustCgroup(t, mustPod(t), "cri-containerd-"+randomID(t)+".scope")
	agent := exec.Command("unshare", "-C", os.Args[0])
	agent.Env = append(os.Environ(), lookEnv+"=container/"+shop)
	other.Put(t, agent)
	out, err := agent.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got looked
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var want, have unix.Stat_t
	if err := errors.Join(unix.Stat(pod, &want), unix.Stat(got.Cgroup, &have)); err != nil || want.Ino != have.Ino {
		t.Errorf("cgroup %q (%s), %v; want %s", got.Cgroup, got.Missing, err, pod)
	}
}

func TestWrongContainerIsExplained(t *testing.T) {
	h := testnet.Lone(t)
	pod, a := mustPod(t), randomID(t)
	b := a[:shortestID] + randomID(t)[shortestID:]
	mustContainer(t, h, pod, a, original(t, "nowhere"))
	mustContainer(t, h, pod, b, original(t, "nowhere"))
	for _, c := range []struct {
		name, cause, hint string
		errno             error
	}{
		{"shop", `"shop" is not a container id`, "12 to 64 hexadecimal digits", syscall.EINVAL},
		{a[:shortestID], "both begin so", "give the whole id", syscall.EINVAL},
		{randomID(t), "no process of it runs on this machine", "hostPID", syscall.ESRCH},
	} {
		_, err := Find("container/" + c.name)
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, c.errno) || !strings.Contains(e.Error(), c.cause) || !strings.Contains(e.Hint(), c.hint) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestNoneIsWhereWeAre(t *testing.T) {
	found := mustFind(t, "none")
	ours, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if name, err := found.Hostname(); err != nil || name != ours {
		t.Errorf("host name %q, %v", name, err)
	}
	if env, err := found.Environment(); err != nil || len(env) != 0 {
		t.Errorf("environment %q, %v", env, err)
	}
	if _, err := readAll(found, "/etc/passwd"); err != nil {
		t.Error(err)
	}
	if err := asNobody(func() error { return found.NS.Do(func() error { return nil }) }); err != nil {
		t.Errorf("it needs a right: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	select {
	case <-found.Gone(ctx):
		t.Error("gone")
	default:
	}
}

// environ belongs to the user of the process; whoever may trace it can read its memory.
func TestEnvironmentIsReadWithoutTheRightToReadAllFiles(t *testing.T) {
	h := testnet.Lone(t)
	cmd := original(t, "127.0.0.1:8080", "GREETING=hello world", "EMPTY=")
	p, err := openProcess(mustStart(t, h, cmd))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	b, err := p.environmentInMemory()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/environ")
	if err != nil || string(b) != string(want) {
		t.Errorf("%q, %v; want %q", b, err, want)
	}
}

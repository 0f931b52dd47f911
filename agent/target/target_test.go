package target

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

const (
	patience = 10 * time.Second
	beServer = "MAGPIE_TEST_LISTEN" // makes this test program listen there, say so, and wait
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(beServer); addr != "" {
		serve(addr)
		return
	}
	if name := os.Getenv(lookEnv); name != "" {
		look(name)
		return
	}
	goleak.VerifyTestMain(m)
}

func serve(addr string) {
	if addr != "nowhere" {
		if _, err := net.Listen("tcp", addr); err != nil {
			panic(err)
		}
	}
	os.Stdout.WriteString("ready\n")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
}

// original returns a command that listens on addr, or "nowhere".
func original(tb testing.TB, addr string, env ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(env, beServer+"="+addr)
	return cmd
}

// mustStart starts a command in a namespace and waits until it is ready.
func mustStart(tb testing.TB, h *testnet.Host, cmd *exec.Cmd) int {
	tb.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stdin.Close() })
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	h.Start(tb, cmd)
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		tb.Fatal(err)
	}
	return cmd.Process.Pid
}

func mustFind(tb testing.TB, name string) *Target {
	tb.Helper()
	t, err := Find(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { t.Close() })
	return t
}

func TestNetnsIsSpokenForByWhoListens(t *testing.T) {
	h := testnet.Lone(t)
	older := mustStart(t, h, original(t, "nowhere"))
	listens := mustStart(t, h, original(t, "127.0.0.1:8080", "GREETING=hello world", "EMPTY="))
	mustStart(t, h, original(t, "[::1]:8081"))
	found := mustFind(t, "netns/"+h.Name)
	if found.PID != listens || found.PID == older {
		t.Errorf("pid %d; want %d, the oldest that listens", found.PID, listens)
	}
	if found.NS.ID() != h.NS.ID() {
		t.Errorf("namespace %v; want %v", found.NS.ID(), h.NS.ID())
	}
	env, err := found.Environment()
	if err != nil || !slices.Equal(env, []string{"GREETING=hello world", "EMPTY=", beServer + "=127.0.0.1:8080"}) {
		t.Errorf("environment %q, %v", env, err)
	}
	addrs, err := found.Listeners()
	want := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("[::1]:8081")}
	if err != nil || !slices.Equal(addrs, want) {
		t.Errorf("listeners %v, %v; want %v", addrs, err, want)
	}
}

func TestAnotherProcessSpeaksWhenTheFirstHasEnded(t *testing.T) {
	h := testnet.Lone(t)
	first := original(t, "127.0.0.1:8080", "WHO=first")
	mustStart(t, h, first)
	found := mustFind(t, "netns/"+h.Name)
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	first.Wait()
	mustStart(t, h, original(t, "127.0.0.1:8080", "WHO=second"))
	if env, err := found.Environment(); err != nil || !slices.Contains(env, "WHO=second") {
		t.Errorf("environment %q, %v", env, err)
	}
}

func TestOwnListenersAreNotTheTargets(t *testing.T) {
	h := testnet.Lone(t)
	mustStart(t, h, original(t, "0.0.0.0:80"))
	h.Do(t, func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	addrs, err := mustFind(t, "netns/"+h.Name).Listeners()
	if err != nil || len(addrs) != 1 || addrs[0].Port() != 80 {
		t.Errorf("listeners %v, %v", addrs, err)
	}
}

func TestEmptyNetnsIsATargetToo(t *testing.T) {
	h := testnet.Lone(t)
	found := mustFind(t, "netns/"+h.Name)
	if found.PID != 0 || found.Cgroup != "" || found.CgroupMissing != "no process runs there" {
		t.Errorf("%+v", found)
	}
	if env, err := found.Environment(); err != nil || len(env) != 0 {
		t.Errorf("environment %q, %v", env, err)
	}
	ours, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if name, err := found.Hostname(); err != nil || name != ours {
		t.Errorf("host name %q, %v; want %q", name, err, ours)
	}
}

func TestProcessIsFoundByItsID(t *testing.T) {
	h := testnet.Lone(t)
	pid := mustStart(t, h, original(t, "127.0.0.1:8080", "A=1"))
	found := mustFind(t, "pid/"+strconv.Itoa(pid))
	if found.PID != pid || found.NS.ID() != h.NS.ID() {
		t.Errorf("%+v", found)
	}
	if env, err := found.Environment(); err != nil || !slices.Contains(env, "A=1") {
		t.Errorf("environment %q, %v", env, err)
	}
	if err := found.Close(); err != nil {
		t.Error(err)
	}
	if err := found.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestHostnameIsThatOfTheProcess(t *testing.T) {
	h := testnet.Lone(t)
	cmd := exec.Command("sh", "-c", "hostname shop-0 2>/dev/null || echo shop-0 > /proc/sys/kernel/hostname; echo ready; exec cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUTS}
	pid := mustStart(t, h, cmd)
	before, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pid/" + strconv.Itoa(pid), "netns/" + h.Name} {
		if got, err := mustFind(t, name).Hostname(); err != nil || got != "shop-0" {
			t.Errorf("%s: host name %q, %v", name, got, err)
		}
	}
	if after, err := os.Hostname(); err != nil || after != before {
		t.Errorf("our own host name is %q, %v", after, err)
	}
}

func TestCgroupHoldsAllProcessesOfANetns(t *testing.T) {
	h := testnet.Lone(t)
	parent := testnet.NewCgroup(t, "")
	left, right := testnet.NewCgroup(t, parent.Path), testnet.NewCgroup(t, parent.Path)
	for i, g := range []*testnet.Cgroup{left, right} {
		cmd := original(t, "nowhere")
		g.Put(t, cmd)
		pid := mustStart(t, h, cmd)
		if got := mustFind(t, "pid/"+strconv.Itoa(pid)); got.Cgroup != g.Path {
			t.Errorf("pid/%d: cgroup %q (%s); want %q", pid, got.Cgroup, got.CgroupMissing, g.Path)
		}
		want := []string{left.Path, parent.Path}[i]
		if got := mustFind(t, "netns/"+h.Name); got.Cgroup != want {
			t.Errorf("netns with %d processes: cgroup %q (%s); want %q", i+1, got.Cgroup, got.CgroupMissing, want)
		}
	}
}

func TestCgroupPaths(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"/", "/a", "/"}, {"/a/b", "/a/b", "/a/b"}, {"/a/b", "/a/bc", "/a"}, {"/a/b/c", "/a/b", "/a/b"}, {"/a", "/b", "/"},
	} {
		if got := ancestor(c.a, c.b); got != c.want {
			t.Errorf("ancestor of %s and %s: %s; want %s", c.a, c.b, got, c.want)
		}
	}
	for _, c := range []struct {
		file, want string
		ok         bool
	}{
		{"0::/a\n", "/a", true}, {"2:cpu:/x\n0::/a (deleted)\n", "/a", true}, {"2:cpu:/x\n", "", false}, {"", "", false},
	} {
		if got, ok := unifiedPath([]byte(c.file)); got != c.want || ok != c.ok {
			t.Errorf("%q: %q, %v", c.file, got, ok)
		}
	}
	top, at, ok := cgroup2Mount(`35 24 0:30 /pods /sys/fs/cgroup\040x rw,nosuid shared:9 - cgroup2 cgroup2 rw`)
	if top != "/pods" || at != "/sys/fs/cgroup x" || !ok {
		t.Errorf("%q, %q, %v", top, at, ok)
	}
}

func TestOpenStaysInTheTargetsRoot(t *testing.T) {
	h := testnet.Lone(t)
	root := t.TempDir()
	for _, dir := range []string{"etc", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mustWriteFile(t, filepath.Join(root, "etc/hosts"), "inside")
	outside := filepath.Join(t.TempDir(), "secret")
	mustWriteFile(t, outside, "outside")
	for link, to := range map[string]string{"absolute": outside, "dots": "../../../../../../../.." + outside, "hosts": "/etc/hosts"} {
		if err := os.Symlink(to, filepath.Join(root, "tmp", link)); err != nil {
			t.Fatal(err)
		}
	}
	// The process runs on after it has changed its root directory: nothing of the new one is needed to start it.
	cmd := original(t, "nowhere")
	pid := mustStart(t, h, cmd)
	found := mustFind(t, "pid/"+strconv.Itoa(pid))
	found.root.Close()
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	found.root = dir
	for path, want := range map[string]string{"/etc/hosts": "inside", "/tmp/hosts": "inside", "/../etc/hosts": "inside"} {
		if got, err := readAll(found, path); err != nil || got != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, path := range []string{"/tmp/absolute", "/tmp/dots", "/proc/self/root" + outside} {
		if got, err := readAll(found, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v; want ErrNotExist", path, got, err)
		}
	}
}

func TestNetnsHasItsOwnEtc(t *testing.T) {
	h := testnet.Lone(t)
	dir := filepath.Join("/etc/netns", h.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll(dir)
		os.Remove("/etc/netns") // fails if it is not ours alone
	})
	mustWriteFile(t, filepath.Join(dir, "resolv.conf"), "nameserver 198.18.0.53\n")
	found := mustFind(t, "netns/"+h.Name)
	if got, err := readAll(found, "/etc/resolv.conf"); err != nil || got != "nameserver 198.18.0.53\n" {
		t.Errorf("%q, %v", got, err)
	}
	want, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(found, "/etc/passwd"); err != nil || got != string(want) {
		t.Errorf("a file that is not overlaid: %d bytes, %v", len(got), err)
	}
}

func readAll(t *Target, path string) (string, error) {
	f, err := t.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}

func mustWriteFile(tb testing.TB, path, content string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		tb.Fatal(err)
	}
}

func TestGoneWhenTheProcessEnds(t *testing.T) {
	h := testnet.Lone(t)
	cmd := original(t, "nowhere")
	found := mustFind(t, "pid/"+strconv.Itoa(mustStart(t, h, cmd)))
	gone := found.Gone(t.Context())
	select {
	case <-gone:
		t.Fatal("gone while it runs")
	default:
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	within(t, "gone", gone)
	if _, err := found.Environment(); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("environment: %v; want ESRCH", err)
	}
}

func TestGoneWhenTheNameIs(t *testing.T) {
	h := testnet.Lone(t)
	found := mustFind(t, "netns/"+h.Name)
	gone := found.Gone(t.Context())
	// Other names come and go.
	testnet.Lone(t)
	select {
	case <-gone:
		t.Fatal("gone while it is there")
	default:
	}
	if out, err := exec.Command("ip", "netns", "del", h.Name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	within(t, "gone", gone)
	// The builder's clean-up deletes it once more.
	if out, err := exec.Command("ip", "netns", "add", h.Name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestGoneEndsWithItsContext(t *testing.T) {
	h := testnet.Lone(t)
	ctx, cancel := context.WithCancel(t.Context())
	for _, name := range []string{"netns/" + h.Name, "pid/" + strconv.Itoa(mustStart(t, h, original(t, "nowhere")))} {
		found := mustFind(t, name)
		gone := found.Gone(ctx)
		defer func() {
			select {
			case <-gone:
				t.Errorf("%s: gone, only because the context ended", name)
			default:
			}
		}()
	}
	cancel() // TestMain sees whether the goroutines end
}

func within(tb testing.TB, what string, done <-chan struct{}) {
	tb.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		tb.Fatalf("%s: not within %v", what, patience)
	}
}

func TestWrongTargetIsExplained(t *testing.T) {
	testnet.RequireRoot(t)
	h := testnet.Lone(t)
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	gone := strconv.Itoa(ended.Process.Pid)
	others := named()
	for _, c := range []struct {
		name, cause, hint string
		errno             error
	}{
		{"", "target: none is given", grammar, syscall.EINVAL},
		{"4711", `target "4711": it has no kind`, "did you mean pid/4711?", syscall.EINVAL},
		{h.Name, `target "` + h.Name + `": it has no kind`, "did you mean netns/" + h.Name + "?", syscall.EINVAL},
		{"netns/", `target "netns/": it has no name`, grammar, syscall.EINVAL},
		{"nets/shop", `target "nets/shop": there is no kind "nets"`, "did you mean netns/shop?", syscall.EINVAL},
		{"pdi/1", `target "pdi/1": there is no kind "pdi"`, "did you mean pid/1?", syscall.EINVAL},
		{"planet/mars", `target "planet/mars": there is no kind "planet"`, grammar, syscall.EINVAL},
		{"deploy/shop", `target "deploy/shop": an agent stands beside one container, not beside a deploy`, grammar, syscall.EOPNOTSUPP},
		{"pid/shop", `target pid/shop: "shop" is not a process id`, "a target is written pid/4711", syscall.EINVAL},
		{"pid/-1", `target pid/-1: "-1" is not a process id`, "a target is written pid/4711", syscall.EINVAL},
		{"pid/" + gone, "target pid/" + gone + ": no such process", "pgrep -a NAME lists processes with their ids", syscall.ESRCH},
		{"netns/" + h.Name + "x", "target netns/" + h.Name + "x: no such network namespace", "did you mean netns/" + h.Name + "?", syscall.ENOENT},
		{"netns/../shop", `target netns/../shop: open netns "../shop": invalid argument`, grammar + "; the NAMEs: ip netns list", fs.ErrInvalid},
	} {
		found, err := Find(c.name)
		if err == nil {
			found.Close()
		}
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, c.errno) {
			t.Errorf("%q: %v; want %v", c.name, err, c.errno)
			continue
		}
		if e.Error() != c.cause || e.Hint() != c.hint {
			t.Errorf("%q: %q, %q; want %q, %q (there are %v)", c.name, e.Error(), e.Hint(), c.cause, c.hint, others)
		}
	}
}

func TestProcessThatDiesMeanwhileIsToldSo(t *testing.T) {
	h := testnet.Lone(t)
	cmd := original(t, "nowhere")
	p, err := openProcess(mustStart(t, h, cmd))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	err = explain("pid/1", p.orDead(nil))
	var e *Error
	if !errors.As(err, &e) || e.Error() != "target pid/1: it ended just now" || !strings.Contains(e.Hint(), "netns/NAME") || !errors.Is(err, syscall.ESRCH) {
		t.Errorf("%v, %q", err, e.Hint())
	}
}

func TestRightsAreMissedBeforeAnythingIsAttached(t *testing.T) {
	h := testnet.Lone(t)
	err := asNobody(func() error {
		found, err := Find("netns/" + h.Name)
		if err == nil {
			found.Close()
		}
		return err
	})
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, fs.ErrPermission) || e.Hint() != "it needs root: sudo" {
		t.Errorf("%v", err)
	}
}

// asNobody runs fn without capabilities in all threads, as an ordinary user's process is.
func asNobody(fn func() error) error {
	if err := syscall.Seteuid(65534); err != nil {
		return err
	}
	defer func() {
		if err := syscall.Seteuid(0); err != nil {
			panic(err)
		}
	}()
	return fn()
}

func TestListenersAreReadAsTheKernelWritesThem(t *testing.T) {
	for s, want := range map[string]string{
		"0100007F:1F90": "127.0.0.1:8080", "00000000000000000000000001000000:0050": "[::1]:80", "B80D01200000000000000000AB000000:FFFF": "[2001:db8::ab]:65535",
	} {
		if got, err := parseAddr(s); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0100007F", "x:1", "01:1", "0100007F:10000"} {
		if _, err := parseAddr(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add(`35 24 0:30 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw`)
	f.Fuzz(func(_ *testing.T, line string) {
		cgroup2Mount(line)
		unifiedPath(bytes.Repeat([]byte(line), 2))
		_, _ = parseAddr(line)
	})
}

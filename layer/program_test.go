package layer_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	developer = 20001            // the ordinary user that supervisors and programs run as
	patience  = 20 * time.Second // for what should take milliseconds, on a busy machine
)

// program says how to run one of testdata/programs. SCRATCH and PORT are replaced in its arguments.
type program struct {
	name    string
	args    []string
	debian  string   // package that has it
	compile []string // run once in the scratch folder's copy of testdata/programs
}

var (
	goClient       = program{name: "go static client", debian: "golang-go", compile: []string{"go", "build", "-o", "SCRATCH/goclient", "client.go"}, args: []string{"SCRATCH/goclient"}}
	glibcClient    = program{name: "glibc client", debian: "gcc", compile: []string{"gcc", "-O1", "-Wall", "-Werror", "-o", "SCRATCH/glibcclient", "client.c"}, args: []string{"SCRATCH/glibcclient"}}
	muslClient     = program{name: "musl client", debian: "musl-tools", compile: []string{"musl-gcc", "-static", "-O1", "-o", "SCRATCH/muslclient", "client.c"}, args: []string{"SCRATCH/muslclient"}}
	pythonClient   = program{name: "python client", debian: "python3", args: []string{"/usr/bin/python3", "SCRATCH/client.py"}}
	asyncioClient  = program{name: "asyncio client", debian: "python3", args: []string{"/usr/bin/python3", "SCRATCH/client_asyncio.py"}}
	nodeClient     = program{name: "node client", debian: "nodejs", args: []string{"node", "SCRATCH/client.js"}}
	javaClient     = program{name: "java client", debian: "openjdk-17-jdk-headless", compile: []string{"javac", "-d", "SCRATCH", "Client.java"}, args: []string{"java", "-XX:TieredStopAtLevel=1", "-cp", "SCRATCH", "Client"}}
	rubyClient     = program{name: "ruby client", debian: "ruby", args: []string{"ruby", "SCRATCH/client.rb"}}
	shellClient    = program{name: "shell script with curl", debian: "curl", args: []string{"sh", "SCRATCH/client.sh"}}
	goServer       = program{name: "go static server", debian: "golang-go", compile: []string{"go", "build", "-o", "SCRATCH/goserver", "server.go"}, args: []string{"SCRATCH/goserver", "PORT"}}
	glibcServer    = program{name: "glibc epoll server", debian: "gcc", compile: []string{"gcc", "-O1", "-Wall", "-Werror", "-o", "SCRATCH/glibcserver", "server.c"}, args: []string{"SCRATCH/glibcserver", "PORT"}}
	muslServer     = program{name: "musl epoll server", debian: "musl-tools", compile: []string{"musl-gcc", "-static", "-O1", "-o", "SCRATCH/muslserver", "server.c"}, args: []string{"SCRATCH/muslserver", "PORT"}}
	pythonServer   = program{name: "python http.server", debian: "python3", args: []string{"/usr/bin/python3", "SCRATCH/server.py", "PORT"}}
	asyncioServer  = program{name: "asyncio server", debian: "python3", args: []string{"/usr/bin/python3", "SCRATCH/server_asyncio.py", "PORT"}}
	preforkServer  = program{name: "python prefork server", debian: "python3", args: []string{"/usr/bin/python3", "SCRATCH/server_prefork.py", "PORT"}}
	nodeServer     = program{name: "node http server", debian: "nodejs", args: []string{"node", "SCRATCH/server.js", "PORT"}}
	nodeCluster    = program{name: "node cluster", debian: "nodejs", args: []string{"node", "SCRATCH/server_cluster.js", "PORT"}}
	javaServer     = program{name: "java HttpServer", debian: "openjdk-17-jdk-headless", compile: []string{"javac", "-d", "SCRATCH", "Server.java"}, args: []string{"java", "-XX:TieredStopAtLevel=1", "-cp", "SCRATCH", "Server", "PORT"}}
	rubyServer     = program{name: "ruby TCPServer", debian: "ruby", args: []string{"ruby", "SCRATCH/server.rb", "PORT"}}
	shell          = program{name: "sh", debian: "dash", args: []string{"/bin/sh", "-c"}}
	python         = program{name: "python", debian: "python3", args: []string{"/usr/bin/python3", "-c"}}
	datagramProbes = program{name: "glibc datagrams", debian: "gcc", compile: []string{"gcc", "-O1", "-Wall", "-Werror", "-o", "SCRATCH/datagrams", "datagrams.c"}, args: []string{"SCRATCH/datagrams"}}
	pathProbes     = program{name: "path calls", debian: "gcc", compile: []string{"gcc", "-O1", "-Wall", "-Werror", "-o", "SCRATCH/paths", "paths.c"}, args: []string{"SCRATCH/paths"}}
)

// command is the program as an argument vector, built if it has to be. A program that this machine lacks skips the test,
// or fails it where MAGPIE_NO_SKIP is set.
func (p program) command(tb testing.TB, args ...string) []string {
	tb.Helper()
	dir := mustScratch(tb)
	for _, argv := range [][]string{p.compile, p.args} {
		if len(argv) == 0 || strings.HasPrefix(argv[0], "SCRATCH") {
			continue
		}
		if _, err := exec.LookPath(argv[0]); err != nil {
			if os.Getenv("MAGPIE_NO_SKIP") == "1" {
				tb.Fatalf("%s is missing: apt-get install %s", argv[0], p.debian)
			}
			tb.Skipf("%s is missing: apt-get install %s", argv[0], p.debian)
		}
	}
	mustCompile(tb, dir, p.compile)
	argv := append([]string{}, p.args...)
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "SCRATCH", dir)
	}
	return append(argv, args...)
}

var compiled sync.Map // joined argv -> *sync.Once

func mustCompile(tb testing.TB, dir string, argv []string) {
	tb.Helper()
	if len(argv) == 0 {
		return
	}
	once, _ := compiled.LoadOrStore(strings.Join(argv, " "), new(sync.Once))
	once.(*sync.Once).Do(func() {
		cmd := exec.Command(argv[0])
		for _, a := range argv[1:] {
			cmd.Args = append(cmd.Args, strings.ReplaceAll(a, "SCRATCH", dir))
		}
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
		}
	})
}

// scratch is a folder that the developer can reach: `go test` keeps its own closed. It holds the programs and the
// supervisor, which is this binary, and goes when the tests are done.
var scratch = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "magpie-layer-")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(dir, os.DirFS("testdata/programs")); err != nil {
		return "", err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "supervisor"), self, 0o755); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
})

func removeScratch() {
	if dir, err := scratch(); err == nil {
		os.RemoveAll(dir)
	}
}

// mustScratch is the scratch folder, made at the first call.
func mustScratch(tb testing.TB) string {
	tb.Helper()
	dir, err := scratch()
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

// mustFolder makes a folder that belongs to the developer and goes with the test.
func mustFolder(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp(mustScratch(tb), "test-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, developer, developer); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// local is a supervised program that runs.
type local struct {
	*exec.Cmd
	dir    string // its working folder
	stdin  io.WriteCloser
	lines  chan string
	stderr lockedBuffer
	done   chan struct{}
}

// mustStart runs argv under the layer, in a host that has no way to the pod but through it.
func (w *world) mustStart(tb testing.TB, argv []string, change ...func(*supervision)) *local {
	tb.Helper()
	l := &local{dir: mustFolder(tb), lines: make(chan string, 1000), done: make(chan struct{})}
	sv := supervision{Args: argv, Dir: l.dir, Files: podFiles, Broker: w.mustBroker(tb), Verbose: os.Getenv("MAGPIE_TEST_VERBOSE") != "",
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin", "HOME=" + l.dir, "LANG=C.UTF-8", "TMPDIR=" + l.dir}}
	for _, c := range change {
		c(&sv)
	}
	l.Cmd = supervisorCommand(tb, sv)
	l.Stderr = &l.stderr
	stdout, err := l.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if l.stdin, err = l.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	err = w.host.do(func() error {
		if sv.prepare != nil {
			if err := sv.prepare(); err != nil {
				return err
			}
		}
		return l.Start()
	})
	if err != nil {
		tb.Fatal("start supervisor:", err)
	}
	go l.read(stdout)
	tb.Cleanup(func() {
		l.Process.Kill()
		<-l.done
		if tb.Failed() && l.stderr.String() != "" {
			tb.Logf("stderr of %s:\n%s", strings.Join(argv, " "), l.stderr.String())
		}
	})
	return l
}

// mustStartInPod runs argv in the pod itself, without the layer: what it prints there is what it must print under the layer.
func (w *world) mustStartInPod(tb testing.TB, argv []string) *local {
	tb.Helper()
	return w.mustStartNatively(tb, w.pod, argv)
}

// mustStartBeside runs argv among the neighbours of the pod.
func (w *world) mustStartBeside(tb testing.TB, argv []string) *local {
	tb.Helper()
	return w.mustStartNatively(tb, w.net, argv)
}

func (w *world) mustStartNatively(tb testing.TB, s *space, argv []string) *local {
	tb.Helper()
	dir := mustFolder(tb)
	l := &local{Cmd: exec.Command(argv[0], argv[1:]...), dir: dir, lines: make(chan string, 1000), done: make(chan struct{})}
	l.Dir, l.Env, l.Stderr = dir, []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin", "HOME=" + dir, "LANG=C.UTF-8"}, &l.stderr
	l.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: developer, Gid: developer}, Setpgid: true}
	stdout, err := l.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	err = s.do(func() error {
		if err := mountFiles(dir, podFiles); err != nil {
			return err
		}
		return l.Start()
	})
	if err != nil {
		tb.Fatal("start in the pod:", err)
	}
	go l.read(stdout)
	tb.Cleanup(func() {
		l.Process.Kill()
		<-l.done
	})
	return l
}

// mountFiles gives the calling thread a mount namespace of its own with the files in place.
func mountFiles(dir string, files map[string][]byte) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for path, content := range files {
		real := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(real, content, 0o644); err != nil {
			return err
		}
		if err := unix.Mount(real, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", path, err)
		}
	}
	return nil
}

// supervisorCommand is this binary as an ordinary user's supervisor, in a process group of its own as a shell would have it.
func supervisorCommand(tb testing.TB, sv supervision) *exec.Cmd {
	tb.Helper()
	order, err := json.Marshal(sv)
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(mustScratch(tb), "supervisor"))
	cmd.Dir = sv.Dir
	cmd.Env = append([]string{supervisorEnv + "=" + string(order)}, sv.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: developer, Gid: developer}, Setpgid: true}
	cmd.WaitDelay = patience
	return cmd
}

func (l *local) read(stdout io.Reader) {
	for s := bufio.NewScanner(stdout); s.Scan(); {
		l.lines <- s.Text()
	}
	close(l.lines)
	l.Wait()
	close(l.done)
}

// mustLine is the next line of the program's output.
func (l *local) mustLine(tb testing.TB) string {
	tb.Helper()
	select {
	case line, ok := <-l.lines:
		if !ok {
			tb.Fatalf("output ended early; stderr:\n%s", l.stderr.String())
		}
		return line
	case <-time.After(patience):
		tb.Fatalf("no output for %v; stderr:\n%s", patience, l.stderr.String())
		return ""
	}
}

// expect fails the test unless these are the next lines of output.
func (l *local) expect(tb testing.TB, want ...string) {
	tb.Helper()
	for _, w := range want {
		if got := l.mustLine(tb); got != w {
			tb.Errorf("got  %q\nwant %q", got, w)
		}
	}
}

// mustEnd fails the test unless the program ends with this status.
func (l *local) mustEnd(tb testing.TB, status int) {
	tb.Helper()
	if got := l.mustExit(tb); got != status {
		tb.Errorf("exit status %d, want %d; stderr:\n%s", got, status, l.stderr.String())
	}
}

// say writes a line to the program's standard input.
func (l *local) say(tb testing.TB, line string) {
	tb.Helper()
	if _, err := fmt.Fprintln(l.stdin, line); err != nil {
		tb.Fatal(err)
	}
}

// mustExit waits for the supervisor and returns its status: 128+n when signal n ended it.
func (l *local) mustExit(tb testing.TB) int {
	tb.Helper()
	select {
	case <-l.done:
	case <-time.After(patience):
		tb.Fatalf("still running after %v; stderr:\n%s", patience, l.stderr.String())
	}
	if ws := l.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return l.ProcessState.ExitCode()
}

// lockedBuffer is a bytes.Buffer that a process may write while the test reads.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

package layer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rawCalls is Python's way to system calls without anything in between: libc's functions, which return the errno's name.
const rawCalls = `
import ctypes, errno, os, select, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
WEB, WEB6, SILENT = "198.18.0.20", "fd18::20", "198.19.77.1"
def result(n):
    return str(n) if n >= 0 else errno.errorcode[ctypes.get_errno()]
def sockaddr(host, port):
    if ":" in host:
        return struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(port), 0, socket.inet_pton(socket.AF_INET6, host), 0)
    return struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), socket.inet_aton(host))
def connect(s, host, port):
    a = sockaddr(host, port)
    return result(libc.connect(s.fileno(), a, len(a)))
def accept(s, flags=0):
    return result(libc.accept4(s.fileno(), None, None, flags))
def tcp(blocking=True, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.setblocking(blocking)
    return s
def poll(s, ms=2000):
    p = select.poll()
    p.register(s, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    e = p.poll(ms)
    return e[0][1] if e else 0
def soerror(s):
    n = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.errorcode[n] if n else "0"
def alarm(first, every=0, restart=False):
    signal.signal(signal.SIGALRM, lambda *a: None)
    signal.siginterrupt(signal.SIGALRM, not restart)
    signal.setitimer(signal.ITIMER_REAL, first, every)
def say(*a):
    print(*a, flush=True)
`

func pythonCalls(script string) []string {
	return []string{"/usr/bin/python3", "-c", rawCalls + script}
}

// mustBeAsInThePod runs the script under the layer and in the pod itself, and compares all that it says.
func (w *world) mustBeAsInThePod(tb testing.TB, script string) {
	tb.Helper()
	native := w.mustStartInPod(tb, pythonCalls(script)).mustSayAll(tb)
	under := w.mustStart(tb, pythonCalls(script)).mustSayAll(tb)
	if len(native) == 0 || strings.Join(native, "\n") != strings.Join(under, "\n") {
		tb.Errorf("under the layer\n\t%s\nin the pod\n\t%s", strings.Join(under, "\n\t"), strings.Join(native, "\n\t"))
	}
}

// mustSayAll returns the whole output of a program that ends well.
func (l *local) mustSayAll(tb testing.TB) (lines []string) {
	tb.Helper()
	for line := range l.lines {
		lines = append(lines, line)
	}
	if code := l.mustExit(tb); code != 0 {
		tb.Errorf("exit status %d; output %q; stderr:\n%s", code, lines, l.stderr.String())
	}
	return lines
}

func TestConnectTellsWhatTheKernelWouldTell(t *testing.T) {
	w := mustWorld(t)
	for name, script := range map[string]string{
		"refused without blocking": `
s = tcp(False)
say(connect(s, WEB, 81), poll(s) & 28, soerror(s), soerror(s))
connect(s, WEB, 80) # natively ECONNABORTED the first time
say(connect(s, WEB, 80) in ("EINPROGRESS", "0", "EALREADY", "EISCONN"), poll(s), soerror(s))`,
		"refused, and told by the next connect": `
s = tcp(False)
say(connect(s, WEB, 81), poll(s) & 28, connect(s, WEB, 81), soerror(s), connect(s, WEB, 80), poll(s), connect(s, WEB, 80), connect(s, WEB, 80))`,
		"unreachable without blocking": `
s = tcp(False)
say(connect(s, "198.19.0.1", 80) in ("EINPROGRESS", "EHOSTUNREACH"), connect(s, "198.19.0.1", 80) != "0")`,
		"connected without blocking": `
s = tcp(False)
say(connect(s, WEB, 80), poll(s), soerror(s), connect(s, WEB, 80), connect(s, WEB, 80), s.getpeername())`,
		"pending": `
s = tcp(False)
say(connect(s, SILENT, 80), poll(s, 50), soerror(s), connect(s, SILENT, 80), connect(s, WEB, 80))`,
		"blocking": `
s = tcp()
say(connect(s, WEB, 81), connect(s, WEB, 81), connect(s, WEB, 80), connect(s, WEB, 80), soerror(s))`,
		"both families": `
for family in socket.AF_INET, socket.AF_INET6:
    for only in 0, 1:
        for host in WEB, WEB6, "::ffff:" + WEB:
            s = tcp(True, family)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            say(family, only, host, connect(s, host, 80))
            try: say(s.getpeername(), s.getsockname()[0])
            except OSError as e: say(errno.errorcode[e.errno])`,
		"bad arguments": `
s, a = tcp(), sockaddr(WEB, 80)
say(result(libc.connect(999, a, 16)), result(libc.connect(1, a, 16)), result(libc.connect(s.fileno(), 1, 16)))
say(result(libc.connect(s.fileno(), a, 8)), result(libc.connect(s.fileno(), a, -1)), result(libc.connect(s.fileno(), a, 1000)))
say(result(libc.connect(s.fileno(), a, 0)), connect(s, WEB, 0))`,
		"patience of the program": `
s = tcp()
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 200000))
t = time.time()
say(connect(s, SILENT, 80), 0.15 < time.time() - t < 0.5)`,
		"interrupted": `
s = tcp()
alarm(0.1)
say(connect(s, SILENT, 80), poll(s, 10))
s.setblocking(False)
say(connect(s, SILENT, 80))`,
		"interrupted with patience": `
s = tcp()
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 5, 0))
alarm(0.1, restart=True)
say(connect(s, SILENT, 80))`,
		"interrupted, then connected": `
s = tcp()
alarm(0.0001, 0.0001)
r = "EINTR"
while r == "EINTR": r = connect(s, WEB, 80)
signal.setitimer(signal.ITIMER_REAL, 0)
say(r in ("0", "EISCONN", "EALREADY"), poll(s) & select.POLLOUT, s.getpeername())`,
		"shut down while connecting": `
s = tcp(False)
say(connect(s, SILENT, 80), result(libc.shutdown(s.fileno(), 2)), poll(s))`,
		"taken back while connecting": `
s = tcp(False)
say(connect(s, SILENT, 80), result(libc.connect(s.fileno(), b"\0" * 16, 16)), poll(s))
say(connect(s, WEB, 80), poll(s), soerror(s), s.getpeername())`,
		"given up by the kernel": `
s = tcp()
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
s.setsockopt(socket.IPPROTO_TCP, 18, 300)
say(connect(s, SILENT, 80))`,
		"in another process": `
s = tcp(False)
say(connect(s, WEB, 80))
if os.fork() == 0:
    say(poll(s), soerror(s), s.getpeername())
    os._exit(0)
s.close()
os.wait()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.mustBeAsInThePod(t, script)
		})
	}
}

func TestConnectGoesOnThroughSignalsThatRestartIt(t *testing.T) {
	w := mustWorld(t)
	w.mustStart(t, pythonCalls(`
s = tcp()
alarm(0.01, 0.01, restart=True)
t = time.time()
say(connect(s, "198.18.0.70", 80), 0.6 < time.time() - t < 1.5)`)).expect(t, "0 True")
}

func TestSocketThatIsClosedEndsItsDial(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStart(t, pythonCalls(`
s = tcp(False)
say(connect(s, SILENT, 80))
sys.stdin.readline()
s.close()
sys.stdin.readline()`))
	l.expect(t, "EINPROGRESS")
	w.pod.mustDial(t, 1)
	l.say(t, "close")
	w.pod.mustDial(t, 0)
}

// mustDial waits until so many sockets of the namespace are connecting.
func (s *space) mustDial(tb testing.TB, want int) {
	tb.Helper()
	got := -1
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		err := s.do(func() error {
			b, err := os.ReadFile("/proc/thread-self/net/tcp")
			got = bytes.Count(b, []byte(" 02 "))
			return err
		})
		if err != nil {
			tb.Fatal(err)
		}
		if got == want {
			return
		}
	}
	tb.Errorf("%d sockets are connecting, want %d", got, want)
}

func TestConnectionThatBreaksOffDoesSoForBothSides(t *testing.T) {
	w := mustWorld(t)
	l := w.net.mustListen(t, webV4+":9000")
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1)
			io.ReadFull(c, b)
			if b[0] == 'r' { // we reset
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
				continue
			}
			c.Write(b)
			_, err = c.Read(b) // the program resets
			ended <- err
			c.Close()
		}
	}()
	script := `
s = tcp()
connect(s, WEB, 9000)
s.send(b"r")
try: say(s.recv(1))
except OSError as e: say(errno.errorcode[e.errno])
s = tcp()
connect(s, WEB, 9000)
s.send(b"a")
say(s.recv(1))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()
time.sleep(0.1)
`
	w.mustStart(t, pythonCalls(script)).expect(t, "ECONNRESET", "b'a'")
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the pod's peer got %v, want a reset", err)
	}
}

func TestWhatAProgramSentBeforeItsEndArrives(t *testing.T) {
	w := mustWorld(t)
	l := w.net.mustListen(t, webV4+":9000")
	got := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		time.Sleep(200 * time.Millisecond) // the program is gone by now; what it sent fills buffers
		n, _ := io.Copy(io.Discard, c)
		got <- n
	}()
	const size = 3 << 20
	p := w.mustStart(t, pythonCalls(fmt.Sprintf(`
s = tcp()
connect(s, WEB, 9000)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, %d)
s.sendall(b"x" * %d)`, size, size)))
	if code := p.mustExit(t); code != 0 {
		t.Errorf("exit status %d: %s", code, p.stderr.String())
	}
	if n := <-got; n != size {
		t.Errorf("%d bytes arrived, want %d", n, size)
	}
}

func TestHalfClosedConnectionsGoOn(t *testing.T) {
	w := mustWorld(t)
	l := w.net.mustListen(t, webV4+":9000")
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c)
		c.Write(bytes.ToUpper(b))
	}()
	w.mustStart(t, pythonCalls(`
s = tcp()
connect(s, WEB, 9000)
s.sendall(b"quiet")
s.shutdown(socket.SHUT_WR)
say(s.recv(100), s.recv(100))`)).expect(t, "b'QUIET' b''")
}

// A dozen ephemeral ports for each address, and more connections than that.
func TestConnectionsOutliveTheEphemeralPortsOfThisHost(t *testing.T) {
	w := mustWorld(t)
	err := w.host.do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40011"), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.mustStart(t, pythonCalls(`
all = []
for i in range(60):
    s = tcp()
    r = connect(s, WEB, 80)
    if r != "0":
        say(i, r)
    all.append(s)
say(len(set(s.getsockname() for s in all)), set(s.getpeername() for s in all))`)).expect(t, "60 {('198.18.0.20', 80)}")
}

// In a namespace of its own there is no loopback of ours, and its network is its own matter.
func TestProcessesInNamespacesOfTheirOwnAreLeftAlone(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStart(t, append([]string{"unshare", "--user", "--map-root-user", "--net", "/usr/bin/python3", "-c"}, rawCalls+`
say(connect(tcp(), WEB, 80), connect(tcp(False), WEB, 80))`))
	l.expect(t, "ENETUNREACH ENETUNREACH")
}

func TestNothingPilesUpInALongSession(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStart(t, pythonCalls(`
def round():
    for i in range(50):
        for blocking in True, False:
            for port in 80, 81:
                s = tcp(blocking)
                connect(s, WEB, port)
                poll(s)
                s.close()
        s = tcp(False)
        connect(s, SILENT, 80)
        s.close()
        s = tcp()
        s.bind(("", 8000 + i))
        s.listen()
        s.close()
for line in sys.stdin:
    round()
    say("done")`))
	descriptors := func() (n int) {
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", l.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			if len(all) == n { // nothing moves any more
				break
			}
			n = len(all)
		}
		return n
	}
	var counts []int
	for range 3 {
		l.say(t, "go")
		l.expect(t, "done")
		w.pod.mustDial(t, 0)
		counts = append(counts, descriptors())
	}
	// The pids' descriptors may come and go; connections may not.
	if counts[2] > counts[0]+10 {
		t.Errorf("descriptors after each round: %v", counts)
	}
}

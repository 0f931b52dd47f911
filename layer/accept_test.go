package layer_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestListenersBehaveAsInThePod(t *testing.T) {
	w := mustWorld(t)
	for name, script := range map[string]string{
		"patience of the program": `
s = tcp()
s.bind(("", NUMBER))
s.listen()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 200000))
t = time.time()
say(accept(s), 0.15 < time.time() - t < 0.5)`,
		"without blocking": `
s = tcp(False)
s.bind(("", NUMBER))
s.listen()
say(accept(s), poll(s, 10), s.getsockname())`,
		"shut down while waiting": `
s = tcp()
s.bind(("", NUMBER))
s.listen()
threading.Timer(0.2, lambda: s.shutdown(socket.SHUT_RDWR)).start()
say(accept(s))`,
		"interrupted": `
s = tcp()
s.bind(("", NUMBER))
s.listen()
alarm(0.1)
say(accept(s))`,
		"interrupted with patience": `
s = tcp()
s.bind(("", NUMBER))
s.listen()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
alarm(0.1, restart=True)
say(accept(s))`,
		"bound twice": `
a, b, c = tcp(), tcp(), tcp()
def bind(s, port):
    x = sockaddr("0.0.0.0", port)
    return result(libc.bind(s.fileno(), x, len(x)))
say(bind(a, NUMBER), bind(a, NUMBER), bind(a, 0), bind(b, NUMBER))
a.listen()
say(a.getsockname(), bind(b, NUMBER))
a.close()
say(bind(c, NUMBER), result(libc.listen(c.fileno(), 5)), c.getsockname())`,
		"shared": `
for i in 0, 1, 2:
    s = tcp()
    if i < 2: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    x = sockaddr("0.0.0.0", NUMBER)
    say(result(libc.bind(s.fileno(), x, len(x))), result(libc.listen(s.fileno(), 5)) if i < 2 else "")
    globals()["keep%d" % i] = s`,
		"families apart": `
v4, v6 = tcp(), tcp(True, socket.AF_INET6)
v6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
v4.bind(("", NUMBER)); v4.listen()
v6.bind(("::", NUMBER)); v6.listen()
say(v4.getsockname(), v6.getsockname())`,
		"a client that has gone": `
s = tcp()
s.bind(("", NUMBER))
s.listen()
c = tcp()
c.connect(("127.0.0.1", NUMBER))
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
mine = c.getsockname()
c.close()
accepted, client = s.accept()
say(client == mine)`,
		"not listening": `
s = tcp()
s.bind(("", NUMBER))
say(accept(s), result(libc.accept4(999, None, None, 0)), result(libc.accept4(1, None, None, 0)))`,
	} {
		t.Run(name, func(t *testing.T) {
			port := 8000 + len(name)*7
			w.mustBeAsInThePod(t, strings.ReplaceAll(script, "NUMBER", fmt.Sprint(port)))
		})
	}
}

// Each signal may take a call away between the accept and the answer: no client may be lost to that.
func TestNoClientIsLostToSignals(t *testing.T) {
	w := mustWorld(t)
	const clients = 300
	for _, restart := range []string{"True", "False"} {
		t.Run("restart "+restart, func(t *testing.T) {
			l := w.mustStart(t, pythonCalls(`
s = tcp()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 8080))
s.listen(128)
say("up")
alarm(0.0005, 0.0005, restart=`+restart+`)
a, n = ctypes.create_string_buffer(16), ctypes.c_int(16)
while True:
    n.value = 16
    fd = libc.accept4(s.fileno(), a, ctypes.byref(n), 0)
    if fd < 0:
        if ctypes.get_errno() == errno.EINTR: continue
        say(result(fd))
        break
    os.write(fd, ("%d\n" % socket.ntohs(struct.unpack("=H", a.raw[2:4])[0])).encode())
    os.close(fd)
`))
			l.expect(t, "up")
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range clients / 4 {
						c, err := w.net.dial(clientV4, podV4+":8080")
						if err != nil {
							t.Error(err)
							return
						}
						c.SetDeadline(time.Now().Add(patience))
						var port int
						if _, err := fmt.Fscan(c, &port); err != nil || port != c.LocalAddr().(*net.TCPAddr).Port {
							t.Errorf("told %d, %v; am %v", port, err, c.LocalAddr())
						}
						c.Close()
					}
				})
			}
			wg.Wait()
		})
	}
}

// Another server of this host has the port: ours lies elsewhere, and nobody in the program sees that.
func TestProgramReachesItsOwnPortsWhereverTheyLie(t *testing.T) {
	w := mustWorld(t)
	w.host.mustListen(t, "127.0.0.1:8080")
	w.mustStart(t, pythonCalls(`
s = tcp(True, socket.AF_INET6)
s.bind(("::", 8080))
s.listen()
say(s.getsockname()[:2])
for blocking in True, False:
    for family, host in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "0.0.0.0"):
        c = tcp(blocking, family)
        connect(c, host, 8080)
        poll(c)
        a, peer = s.accept()
        a.send(b"hi")
        say(c.recv(2), c.getpeername()[1], a.getsockname()[1], peer[1] == c.getsockname()[1])
`)).expect(t, append([]string{"('::', 8080)"}, strings.Split(strings.Repeat("b'hi' 8080 8080 True,", 6), ",")[:6]...)...)
}

// The listener serves IPv4 alone: whoever calls over IPv6 is not ours.
func TestClientsOfAFamilyThatNobodyListensForAreRefused(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStart(t, pythonCalls(`
s = tcp()
s.bind(("", 8080))
s.listen()
say("up")
sys.stdin.readline()`))
	l.expect(t, "up")
	c, err := w.net.dial(clientV6, "["+podV6+"]:8080")
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("read %v, want a reset", err)
	}
}

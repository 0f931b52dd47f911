package layer_test

import (
	"fmt"
	"os"
	"testing"
)

// What datagrams.c prints on a machine that has the echo server beside it.
var datagramLines = []string{
	"sendmsg: 12",
	"recvmsg: 12 one datagram from 198.18.0.20:7 namelen 16 flags 0 control timestamp",
	"sendmmsg: 3 of 5 6 5",
	"recvmmsg: first from 198.18.0.20:7 second from 198.18.0.20:7 third from 198.18.0.20:7",
	"MSG_DONTWAIT on nothing: EAGAIN",
	"MSG_PEEK of 4: 4 abcd from 198.18.0.20:7",
	"MSG_PEEK and MSG_TRUNC of 4: 10",
	"recvmsg of 4: 4 abcd flags MSG_TRUNC",
	"an empty datagram: 0 from 198.18.0.20:7",
	"a short name: 1, would have been 16",
	"O_NONBLOCK on nothing: EAGAIN",
	"O_NONBLOCK when ready: later from 198.18.0.20:7",
	"SO_RCVTIMEO: EAGAIN",
	"a reader that waited first: awaited from 198.18.0.20:7",
	"connect: 0",
	"getpeername: 198.18.0.20:7",
	"getsockname: 198.18.0.9",
	"send and recv: plain",
	"write and recvfrom: asked from 198.18.0.20:7",
	"sendmsg without a name and read: nameless",
	"sendto its own peer: named",
	"getpeername after AF_UNSPEC: -1 ENOTCONN",
	"refused: ECONNREFUSED",
	"one socket, peer 1: from 198.18.0.20:7",
	"one socket, peer 2: from 198.18.0.30:7",
	"300 datagrams under a 2 kHz timer: all answered, next to none lost",
	"over loopback: near from 127.0.0.1",
	"over AF_UNIX: unix",
}

func TestDatagramsTravelAsInThePod(t *testing.T) {
	w := mustWorld(t)
	argv := datagramProbes.command(t, webV4, "7", dbV4)
	t.Run("in the pod itself", func(t *testing.T) { w.mustStartInPod(t, argv).expect(t, datagramLines...) })
	t.Run("under the layer", func(t *testing.T) {
		l := w.mustStart(t, argv)
		l.expect(t, datagramLines...)
		l.mustEnd(t, 0)
	})
}

func TestDatagramsOfEitherFamilyAreAsInThePod(t *testing.T) {
	w := mustWorld(t)
	for name, script := range map[string]string{
		"both families": `
for family in socket.AF_INET, socket.AF_INET6:
    for only in 0, 1:
        for host in WEB, WEB6, "::ffff:" + WEB:
            for connected in False, True:
                s = socket.socket(family, socket.SOCK_DGRAM)
                s.settimeout(5)
                if family == socket.AF_INET6:
                    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
                try:
                    if connected:
                        s.connect((host, 7))
                        s.send(b"x")
                    else:
                        s.sendto(b"x", (host, 7))
                    say(family, only, host, s.recvfrom(9))
                    if connected:
                        say(s.getpeername(), s.getsockname()[0])
                except OSError as e: say(family, only, host, connected, errno.errorcode.get(e.errno, "no such family"))`,
		"connected anew": `
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
for host, port in (WEB, 7), ("198.18.0.30", 7), (WEB, 7):
    s.connect((host, port))
    s.send(host.encode())
    say(s.recv(99), s.getpeername(), s.getsockname()[0])
s.connect(("127.0.0.1", 9))
say(s.getpeername())`,
		"named and connected": `
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.2)
s.connect((WEB, 7))
s.sendto(b"to another", ("198.18.0.30", 7))
try: say(s.recv(99))
except TimeoutError: say("a connected socket hears its peer alone")`,
		"bad arguments": `
s, a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), sockaddr(WEB, 7)
say(result(libc.sendto(s.fileno(), b"x", 1, 0, a, 8)), result(libc.sendto(999, b"x", 1, 0, a, 16)), result(libc.sendto(1, b"x", 1, 0, a, 16)))
say(result(libc.sendto(s.fileno(), 1, 9, 0, a, 16)), result(libc.sendto(s.fileno(), b"x", 1, 0, 1, 16)), result(libc.sendto(s.fileno(), b"x" * 65535, 65535, 0, a, 16)))
b = sockaddr(WEB6, 7)
say(result(libc.sendto(s.fileno(), b"x", 1, 0, b, 28)), result(libc.connect(s.fileno(), b, 28)))
t = tcp()
say(result(libc.sendto(t.fileno(), b"x", 1, socket.MSG_NOSIGNAL, a, 16)))`,
	} {
		t.Run(name, func(t *testing.T) { w.mustBeAsInThePod(t, script) })
	}
}

func TestSignalsReachProgramsThatWaitForDatagrams(t *testing.T) {
	w := mustWorld(t)
	w.mustBeAsInThePod(t, `
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 0))
b, a, n = ctypes.create_string_buffer(9), ctypes.create_string_buffer(16), ctypes.c_int(16)
def receive(restart):
    alarm(0.1, restart=restart)
    say(result(libc.recvfrom(s.fileno(), b, 9, 0, a, ctypes.byref(n))))
receive(False)
threading.Timer(0.3, lambda: s.sendto(b"awaited", (WEB, 7))).start()
receive(True)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
receive(True)
receive(False)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 200000))
say(result(libc.recvfrom(s.fileno(), b, 9, 0, a, None)))
say(result(libc.recvmsg(s.fileno(), struct.pack("QQQQQQQ", ctypes.addressof(a), 16, 0, 0, 0, 0, 0), 0)))`)
}

// sendto with MSG_FASTOPEN connects without connect(2).
func TestFastOpenIsNoWayOut(t *testing.T) {
	w := mustWorld(t)
	w.host.mustIP(t, "addr add "+webV4+"/32 dev lo")
	w.host.mustListen(t, webV4+":80")
	l := w.mustStart(t, pythonCalls(`
a, s = sockaddr(WEB, 80), tcp()
say(result(libc.sendto(s.fileno(), b"x", 1, socket.MSG_FASTOPEN, a, 16)))
try: tcp().sendmsg([b"x"], [], socket.MSG_FASTOPEN, (WEB, 80))
except OSError as e: say(errno.errorcode[e.errno])
s = tcp()
s.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
say(connect(s, WEB, 80), s.getpeername())
try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).sendto(b"\x08\0\0\0\0\0\0\0", (WEB, 0))
except OSError as e: say(errno.errorcode[e.errno] in ("ENETUNREACH", "EACCES"))`))
	l.expect(t, "ENOTSUP", "ENOTSUP", "0 ('198.18.0.20', 80)", "True")
	l.mustEnd(t, 0)
}

func TestRelaysOfDatagramsAreBounded(t *testing.T) {
	w := mustWorld(t)
	l := w.mustStart(t, python.command(t, `
import socket, sys
kept = []
for port in range(1000, 1700):
    c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    c.connect(("198.18.0.20", port))
    kept.append(c)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(1000, 1020):
    s.sendto(b"anybody?", ("198.18.0.20", port))
s.settimeout(5)
s.sendto(b"hello", ("198.18.0.20", 7))
print(s.recvfrom(10), flush=True)
sys.stdin.readline()
`))
	l.expect(t, "(b'hello', ('198.18.0.20', 7))")
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", l.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	// A relay is a socket here, a connection to the pod, and for a moment a duplicate.
	if len(open) > 3*512+100 {
		t.Errorf("the supervisor has %d descriptors", len(open))
	}
	l.say(t, "end")
	l.mustEnd(t, 0)
}

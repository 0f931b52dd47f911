package session

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// startPeer puts something that is no agent on a unix socket.
func startPeer(tb testing.TB, serve func(l net.Listener)) (socket string) {
	tb.Helper()
	socket = filepath.Join(tb.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go serve(l)
	return socket
}

// each serves one connection after the other.
func each(serve func(net.Conn)) func(net.Listener) {
	return func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			c.Close()
		}
	}
}

func TestABrokenOrForeignAgentIsToldApart(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const hello = "magpie\x00\x01"
	for _, c := range []struct{ name, socket, cause string }{
		{"nobody", "/nowhere/s", "agent: dial unix /nowhere/s: "},
		{"no socket", plain, "agent: dial unix " + plain + ": "},
		{"an HTTP server", startPeer(t, func(l net.Listener) { _ = http.Serve(l, nil) }), `agent: not a Magpie agent: it said "HTTP/1.1"`},
		{"closes at once", startPeer(t, each(func(net.Conn) {})), "agent: "},
		{"closes after a word", startPeer(t, each(func(c net.Conn) { io.WriteString(c, hello[:3]) })), "agent: "},
		{"the future", startPeer(t, each(func(c net.Conn) { io.WriteString(c, "magpie\x00\x07"); io.Copy(io.Discard, c) })), "agent: agent speaks protocol 7, this client 1"},
		{"closes after its first word", startPeer(t, each(func(c net.Conn) { io.WriteString(c, hello) })), "agent: "},
		{"garbage after its first word", startPeer(t, each(func(c net.Conn) {
			io.WriteString(c, hello+strings.Repeat("\xff", 1<<16))
			io.Copy(io.Discard, c)
		})), "agent: "},
		{"resets", startPeer(t, each(func(c net.Conn) { io.CopyN(io.Discard, c, 4) })), "agent: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			mustFail(t, 125, c.cause, "", "--agent", c.socket, "--target", "netns/any", "--steal", "--", "true")
		})
	}
}

// TestASilentAgentIsGivenUp waits as long as the protocol allows a peer to be silent.
func TestASilentAgentIsGivenUp(t *testing.T) {
	t.Parallel()
	const allowed = 11 * time.Second
	for name, words := range map[string]string{"from the start": "", "after its first word": "magpie\x00\x01"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := startPeer(t, each(func(c net.Conn) { io.WriteString(c, words); io.Copy(io.Discard, c) }))
			begin := time.Now()
			m := startExec(t, "--agent", socket, "--target", "netns/any", "--steal", "--", "true")
			if got := m.Status(t); got != 125 {
				t.Errorf("exit status %d, want 125", got)
			}
			if took := time.Since(begin); took > allowed+2*time.Second {
				t.Errorf("it took %v", took)
			}
			mustSayCauseAndHint(t, m, "magpie: agent", "")
		})
	}
}

// yamux frames: version, type, flags, stream, length.
func frame(kind byte, flags uint16, stream, length uint32, body string) string {
	b := binary.BigEndian.AppendUint16([]byte{0, kind}, flags)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, stream), length)
	return string(b) + body
}

func TestBrokenMessagesEndNothingButTheirCarrier(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	m := startSession(t, n)
	const data, syn = 0, 1
	const hello = "magpie\x00\x01"
	ends := frame(data, syn, 1, 0, "")
	for name, said := range map[string]string{
		"nothing":                       "",
		"HTTP":                          "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"half a first word":             hello[:5],
		"the first word":                hello,
		"half a frame":                  hello + ends[:7],
		"a frame of 4 GiB":              hello + frame(data, syn, 3, 1<<32-1, "x"),
		"an unknown kind of frame":      hello + frame(99, 0, 3, 4, "abcd"),
		"a version of the future":       hello + "\x09" + ends[1:],
		"half a message":                hello + ends + frame(data, syn, 3, 4, "\x00\x10\x0a\x02"),
		"an oversized message":          hello + ends + frame(data, syn, 3, 1<<17, "\xff\xff"+strings.Repeat("\xff", 1<<17-2)),
		"an empty message":              hello + ends + frame(data, syn, 3, 2, "\x00\x00"),
		"a message of nonsense":         hello + ends + frame(data, syn, 3, 6, "\x00\x04\xff\xff\xff\xff"),
		"calls, then an oversized call": hello + ends + frame(data, syn, 3, 4, "\x00\x02\x0a\x00") + frame(data, 0, 3, 10, "\x7f\xff\xff\xff\x00\x00\x00\x01\x01\x00"),
		"calls, then a truncated call":  hello + ends + frame(data, syn, 3, 4, "\x00\x02\x0a\x00") + frame(data, 0, 3, 12, "\x00\x00\x01\x00\x00\x00\x00\x01\x01\x00ab"),
		"a claim of others, unasked":    hello + ends + frame(data, syn, 3, 8, "\x00\x06\x12\x04\x08\x01\x12\x00"),
		"many streams":                  hello + ends + manyStreams(3000),
		"nonsense on the ends stream":   hello + frame(data, syn, 1, 6, "\x00\x04\xff\xff\xff\xff"),
		"noise":                         strings.Repeat("\xa5\x5a\x00\xff", 1<<16),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("unix", doorOf(n)+".sock")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(testrun.Patience))
			_, _ = io.WriteString(c, said) // it may be cut off
			_ = c.(*net.UnixConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		})
	}
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	for header, by := range both {
		if a := mustGet(t, n.Client, addr, "/", header); a.by != by {
			t.Errorf("%s: answered by %q", header, a.by)
		}
	}
	const most = 100 << 10 // KiB
	var peak int
	if _, err := fmt.Sscanf(idsOf(t, agentOf(t, m), "VmHWM"), "%d kB", &peak); err != nil || peak > most {
		t.Errorf("the agent took %d KiB at its most, %v", peak, err)
	}
}

// manyStreams opens streams and says nothing on them.
func manyStreams(count uint32) string {
	var b strings.Builder
	for i := range count {
		b.WriteString(frame(0, 1, 3+2*i, 0, ""))
	}
	return b.String()
}

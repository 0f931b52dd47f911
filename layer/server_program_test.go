package layer_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestServersSeeTheirTrueClients(t *testing.T) {
	for _, s := range []struct {
		program
		listening string
		v6        bool
	}{
		{goServer, "[::]:80", true},
		{glibcServer, "[::]:80", true},
		{muslServer, "[::]:80", true},
		{pythonServer, "0.0.0.0:80", false},
		{asyncioServer, "0.0.0.0:80 [::]:80", true},
		{preforkServer, "0.0.0.0:80", false},
		{nodeServer, "[::]:80", true},
		{nodeCluster, "[::]:80", true},
		{javaServer, "[::]:80", true},
		{rubyServer, "0.0.0.0:80", false},
	} {
		t.Run(s.name, func(t *testing.T) {
			w := mustWorld(t)
			l := w.mustStart(t, replacePort(s.command(t), "80"))
			l.expect(t, "listening on "+s.listening)
			// Clients come from outside the pod and, over lo, from inside it.
			for range 3 {
				w.net.mustBeServed(t, clientV4, podV4+":80")
				w.pod.mustBeServed(t, "127.0.0.1", "127.0.0.1:80")
				if s.v6 {
					w.net.mustBeServed(t, clientV6, "["+podV6+"]:80")
					w.pod.mustBeServed(t, "::1", "[::1]:80")
				}
			}
		})
	}
}

// nginx opens its socket in the master and accepts in two workers, each with an epoll of its own.
func TestNginxSeesItsTrueClients(t *testing.T) {
	nginx := program{name: "nginx", debian: "nginx-light", args: []string{"nginx", "-e", "stderr", "-c"}}
	argv := nginx.command(t)
	conf, err := os.ReadFile("testdata/programs/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	w := mustWorld(t)
	for name, listen := range map[string]string{"shared": "PORT", "reuseport": "PORT reuseport"} {
		t.Run(name, func(t *testing.T) {
			dir := mustFolder(t)
			text := strings.NewReplacer("LISTEN", listen, "SCRATCH", dir).Replace(string(conf))
			path := filepath.Join(dir, "nginx.conf")
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "PORT", "443")), 0o644); err != nil {
				t.Fatal(err)
			}
			l := w.mustStart(t, append(slices.Clone(argv), path))
			w.net.mustBeServedSoon(t, clientV4, podV4+":443")
			for range 10 {
				w.net.mustBeServed(t, clientV4, podV4+":443")
				w.net.mustBeServed(t, clientV6, "["+podV6+"]:443")
			}
			if err := l.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			l.mustEnd(t, 0)
			w.net.mustRefuse(t, clientV4, podV4+":443")
		})
	}
}

func replacePort(argv []string, port string) []string {
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "PORT", port)
	}
	return argv
}

// mustBeServed asks the server at addr who it thinks is calling.
func (s *space) mustBeServed(tb testing.TB, from, addr string) {
	tb.Helper()
	c, err := s.dial(from, addr)
	if err != nil {
		tb.Errorf("dial %s from %s: %v", addr, from, err)
		return
	}
	defer c.Close()
	want := fmt.Sprintf("peer %v local %v", c.LocalAddr(), addr)
	if got := ask(c); got != want {
		tb.Errorf("got  %s\nwant %s", got, want)
	}
}

func (s *space) dial(from, addr string) (c net.Conn, err error) {
	err = s.do(func() (err error) {
		d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
		c, err = d.Dial("tcp", addr)
		return err
	})
	return c, err
}

// ask sends one request over c and returns the answer's only line, or what went wrong.
func ask(c net.Conn) string {
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	line, _, err := bufio.NewReader(res.Body).ReadLine()
	if err != nil {
		return err.Error()
	}
	return string(line)
}

// mustRefuse waits until nobody listens on addr any more. The claim must be gone at once, which is to say without any
// time limit of ours; the wait is for the scheduler.
func (s *space) mustRefuse(tb testing.TB, from, addr string) {
	tb.Helper()
	deadline := time.Now().Add(time.Second)
	for {
		c, err := s.dial(from, addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			c.Close()
		}
		if time.Now().After(deadline) {
			tb.Errorf("dial %s: %v, want connection refused", addr, err)
			return
		}
	}
}

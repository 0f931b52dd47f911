package session

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// nginxOriginal says whom it sees on port 8081. Workers are of the user that it is started by.
const nginxOriginal = `daemon off; user root; worker_processes 2; pid %[1]s/nginx.pid; error_log stderr error;
events { worker_connections 64; }
http {
	access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
	server {
		listen 8081; listen [::]:8081;
		location / { add_header X-Answered-By original; add_header X-Client "[$remote_addr]:$remote_port"; return 200 "nginx\n"; }
	}
}
`

// pythonOriginal does on port 8082.
const pythonOriginal = `
import http.server, socket

class Say(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Answered-By", "original")
        self.send_header("X-Client", "[%s]:%d" % self.client_address[:2])
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

Server(("::", 8082), Say).serve_forever()
`

// startOriginals starts the same small shop thrice: nginx on 8081, Python on 8082, Go on 8083.
func startOriginals(tb testing.TB, n *testnet.Net) {
	tb.Helper()
	dir := tb.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, []byte(fmt.Sprintf(nginxOriginal, dir)), 0o644); err != nil {
		tb.Fatal(err)
	}
	nginx := exec.Command("nginx", "-e", "stderr", "-p", dir, "-c", conf)
	if path, err := exec.LookPath("/usr/sbin/nginx"); err == nil {
		nginx.Path, nginx.Err = path, nil
	}
	startIn(tb, n, nginx, "8081")
	startIn(tb, n, exec.Command("/usr/bin/python3", "-c", pythonOriginal), "8082")
	startOriginal(tb, n, "http", ":8083")
}

// threeServers is a local process with a server on each port of startOriginals.
func threeServers() []string {
	return []string{"--env", serving + "=1", "--", filepath.Join(programs, "small"), "http", "local", ":8081,:8082,:8083"}
}

// sameClient compares a client with what a server says of it: brackets and ::ffff: are matters of taste.
func sameClient(said, real string) bool {
	host, port, err := net.SplitHostPort(said)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && net.JoinHostPort(addr.Unmap().String(), port) == real
}

func TestTheOriginalSeesItsTrueClients(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginals(t, n)
	dev := withAgent(t)
	m := dev.exec(t, n, append([]string{"--http-header-filter", "x-user: me"}, threeServers()...)...)
	for port, original := range map[string]string{"8081": "nginx", "8082": "Python", "8083": "Go"} {
		m.WaitFor(t, "port "+port)
		for _, way := range []struct {
			from *testnet.Host
			ip   string
		}{
			{n.Client, n.Target.Addr4.String()}, {n.Client, n.Target.Addr6.String()},
			{n.Target, n.Target.Addr4.String()}, {n.Target, n.Target.Addr6.String()}, {n.Target, "127.0.0.1"}, {n.Target, "::1"},
		} {
			addr := net.JoinHostPort(way.ip, port)
			if a := mustGet(t, way.from, addr, "/", "x-user: me"); a.by != "local" || !sameClient(a.client, a.as) {
				t.Errorf("%s: answered by %q, who saw %s instead of %s", addr, a.by, a.client, a.as)
			}
			mustSeeEachRequest(t, way.from, addr, original)
		}
	}
}

// mustSeeEachRequest asks the original thrice over one connection.
func mustSeeEachRequest(tb testing.TB, from *testnet.Host, addr, original string) {
	tb.Helper()
	c, err := dial(from, addr)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for range 3 {
		a, err := ask(c, in, "/", "x-user: you")
		if err != nil {
			tb.Fatal(err)
		}
		if a.by != "original" || !sameClient(a.client, a.as) {
			tb.Errorf("%s: answered by %q, who saw %s instead of %s (%s)", addr, a.by, a.client, a.as, original)
		}
	}
}

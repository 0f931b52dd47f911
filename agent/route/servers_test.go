package route

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testrun"
)

// servers are real ones, who each read odd requests in their own way. Each says what it has understood.
var servers = map[string]func(testing.TB) string{
	"net/http": func(tb testing.TB) string { return mustHTTP(tb, understood) },
	"nginx":    mustNginx,
	"Node":     mustNode,
}

// understood answers shortly: the chunks of a long answer are cut by the clock.
func understood(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	uri := r.RequestURI
	fmt.Fprintf(w, "%s %d %.100s %s %d %.100q %v %d", r.Method, len(uri), uri, r.Header["X-User"], len(body), body, err != nil, len(r.Trailer))
}

// mustNginx is a proxy that has read a request as a whole before it asks: nginx alone would answer some chunks before it has read
// them, and others after, by how they are cut into packets.
func mustNginx(tb testing.TB) string {
	tb.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // not in everybody's path
	}
	if _, err := os.Stat(program); err != nil {
		skip(tb, "nginx is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	dir := tb.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`
daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/error crit;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		proxy_ignore_client_abort on; # they end as soon as they have asked
		location / { proxy_pass http://%[3]s; }
	}
}
`, dir, addr, mustHTTP(tb, understood))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	testrun.Start(tb, exec.Command(program, "-p", dir, "-e", filepath.Join(dir, "error"), "-c", conf), nil)
	testrun.Eventually(tb, func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return addr
}

const nodeServer = `
const http = require('http');
const server = http.createServer((req, res) => {
	const parts = [];
	req.on('data', part => parts.push(part));
	req.on('error', () => {});
	req.on('end', () => res.end([req.method, req.url, req.headers.host, req.headers['x-user'], Buffer.concat(parts).toString('latin1')].join(' ')));
});
server.listen(0, '127.0.0.1', () => console.log('listens at ' + server.address().port));
`

// skip skips a test for want of a program, or fails it when MAGPIE_NO_SKIP=1.
func skip(tb testing.TB, why string) {
	tb.Helper()
	if os.Getenv("MAGPIE_NO_SKIP") == "1" {
		tb.Fatal(why)
	}
	tb.Skip(why)
}

func mustNode(tb testing.TB) string {
	tb.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		skip(tb, "node is not installed")
	}
	line := testrun.Start(tb, exec.Command("node", "-e", nodeServer), nil).WaitFor(tb, "listens at ")
	return "127.0.0.1:" + strings.TrimPrefix(line, "listens at ")
}

var dates = regexp.MustCompile(`Date: [^\r\n]*`)

// sayAll says everything at once, ends, and returns what is answered.
func sayAll(tb testing.TB, addr, say string) heard {
	tb.Helper()
	conn := mustDial(tb, addr)
	defer conn.Close()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = io.WriteString(conn, say)
		_ = conn.CloseWrite()
	}()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(conn)
	<-written
	return heard{dates.ReplaceAllString(string(b), "Date: today"), ending(err)}
}

// TestRealServersAnswerOddRequestsAsWithoutUs says what clients say in the corpus to real servers, directly and through a port on
// which a session asks for something else.
func TestRealServersAnswerOddRequestsAsWithoutUs(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			addr := start(t)
			s := mustStage(t, addr, 0)
			s.claim("you", "X-User: you", mustListen(t, nobody(t)))
			for _, o := range corpus(t) {
				if o.private {
					continue
				}
				t.Run(o.name, func(t *testing.T) {
					say := o.says()
					if strings.HasPrefix(o.name, "switch:") {
						// Node drops what comes in one packet with a wish to switch; from us it comes in the next.
						say = o.turns[0].say
					}
					want := sayAll(t, addr, say)
					got := sayAll(t, s.addr, say)
					if got.end == "reset" || want.end == "reset" {
						// It is for the clock whether a server that leaves bytes unread seems to end or to reset.
						got.end = want.end
					}
					compare(t, "the client", got, want)
				})
			}
		})
	}
}

package local

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testrun"
)

// node has a server of each protocol; it prints their ports. What it serves is written for both of its APIs.
const node = `
function serve(q, s) {
	if (q.url == '/early' && s.writeEarlyHints) s.writeEarlyHints({link: '</a.css>; rel=preload'});
	if (q.url == '/abort') { s.write('half'); setTimeout(() => (s.stream ? s.stream.close(2) : s.destroy()), 20); return; }
	s.setHeader('x-asked', q.method + ' ' + q.url + ' ' + (q.headers.host || q.authority));
	if (q.url == '/trailers') { s.setHeader('trailer', 'x-sum'); s.addTrailers({'x-sum': '42'}); }
	q.pipe(s);
}
const h1 = require('http').createServer({keepAliveTimeout: 60000}, serve).listen(0, '127.0.0.1', () => {
	const h2 = require('http2').createServer(serve).listen(0, '127.0.0.1', () => console.log('ports', h1.address().port, h2.address().port, 'ready'));
});
`

func mustNode(tb testing.TB) map[Protocol]string {
	tb.Helper()
	p := testrun.Start(tb, exec.CommandContext(tb.Context(), "node", "-e", node), nil)
	p.WaitFor(tb, "ready")
	fields := strings.Fields(p.Output())
	return map[Protocol]string{HTTP1: "127.0.0.1:" + fields[1], HTTP2: "127.0.0.1:" + fields[2]}
}

func TestNodeIsServedAsItIs(t *testing.T) {
	addrs := mustNode(t)
	for _, pair := range pairs {
		t.Run(pair.name, func(t *testing.T) {
			s := mustStage(t, addrs[pair.to], pair.from, pair.to)
			client := s.client()
			var all sync.WaitGroup
			for i := range 50 { // at once, and on connections that were used before
				all.Go(func() {
					body := bytes.Repeat([]byte("melon "), i*i*50)
					res, got := mustDo(t, client, mustRequest(t, "POST", "http://shop.example/echo?n="+strconv.Itoa(i), bytes.NewReader(body)))
					if res.StatusCode != 200 || got != string(body) || res.Header.Get("X-Asked") != fmt.Sprintf("POST /echo?n=%d shop.example", i) {
						t.Errorf("%d: %d %v, %d bytes of %d", i, res.StatusCode, res.Header, len(got), len(body))
					}
				})
			}
			all.Wait()
			if g := mustGet(t, client, mustRequest(t, "GET", "http://a/early", nil)); len(g.Interim) != 1 || g.Interim[0] != "103 [</a.css>; rel=preload]" {
				t.Errorf("%+v", g)
			}
			if g := mustGet(t, client, mustRequest(t, "POST", "http://a/trailers", strings.NewReader("x"))); g.Trailer.Get("X-Sum") != "42" || g.Body != "x" {
				t.Errorf("%+v", g)
			}
			res, err := client.Do(mustRequest(t, "GET", "http://a/abort", nil))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if n, err := new(bytes.Buffer).ReadFrom(res.Body); n != 4 || err == nil {
				t.Errorf("abort: %d bytes, %v", n, err)
			}
		})
	}
}

func TestNghttpdIsServedAsItIs(t *testing.T) {
	dir := t.TempDir()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := os.WriteFile(filepath.Join(dir, "big"), big, 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	_ = l.Close()
	testrun.Start(t, exec.CommandContext(t.Context(), "nghttpd", "--no-tls", "--echo-upload", "--trailer", "x-sum: 42", "-a", "127.0.0.1", "-d", dir, strconv.Itoa(addr.Port)), nil)
	testrun.Eventually(t, func() error {
		conn, err := net.DialTCP("tcp", nil, addr)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	s := mustStage(t, addr.String(), HTTP1, HTTP2)
	client := s.client()
	for range 3 {
		if g := mustGet(t, client, mustRequest(t, "GET", "http://a/big", nil)); g.Status != 200 || g.Body != string(big) || g.Trailer.Get("X-Sum") != "42" {
			t.Errorf("%d, %d bytes, %v", g.Status, len(g.Body), g.Trailer)
		}
		if g := mustGet(t, client, mustRequest(t, "HEAD", "http://a/big", nil)); g.Status != 200 || g.Length != int64(len(big)) {
			t.Errorf("%d, length %d", g.Status, g.Length)
		}
		if g := mustGet(t, client, mustRequest(t, "PUT", "http://a/up", bytes.NewReader(big))); g.Status != 200 || g.Body != string(big) {
			t.Errorf("%d, %d bytes", g.Status, len(g.Body))
		}
		if g := mustGet(t, client, mustRequest(t, "GET", "http://a/none", nil)); g.Status != http.StatusNotFound {
			t.Errorf("%d", g.Status)
		}
	}
}

// One client connection takes a bounded number of connections to the local process; what is asked beyond waits.
func TestManyRequestsAtOnceAreAnswered(t *testing.T) {
	const many = 3000
	var arrived sync.WaitGroup
	arrived.Add(maxStreams)
	var first atomic.Int32
	s := mustStage(t, mustServe(t, HTTP1, func(w http.ResponseWriter, r *http.Request) {
		if first.Add(1) <= maxStreams {
			arrived.Done()
			arrived.Wait() // the first so many are there at once
		}
		_, _ = io.WriteString(w, "answer")
	}), HTTP2, HTTP1)
	addr := mustListen(t, func(conn net.Conn) {
		stream := s.mustDial()
		defer stream.Close()
		go func() { _, _ = io.Copy(stream, conn) }()
		_, _ = io.Copy(conn, stream)
	})
	p := testrun.Start(t, exec.CommandContext(t.Context(), "h2load", "-n", strconv.Itoa(many), "-c", "1", "-m", strconv.Itoa(3*maxStreams), "http://"+addr+"/"), nil)
	p.WaitFor(t, fmt.Sprintf("%d done, %d succeeded, 0 failed", many, many))
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streams) != 1 || s.peak != maxStreams {
		t.Errorf("%d connections at once, for %d", s.peak, len(s.streams))
	}
	if len(s.opened) > 2*maxStreams {
		t.Errorf("%d connections in all: they are not kept", len(s.opened))
	}
}

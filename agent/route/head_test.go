package route

import (
	"strings"
	"testing"
)

func TestHeadsAreJudged(t *testing.T) {
	for name, say := range inDoubt {
		var h head
		v := h.parse([]byte(say))
		if v == clean {
			b := h.body()
			_, ok := b.feed([]byte(say)[h.n:])
			if ok && !b.open() {
				t.Errorf("%s: clean", name)
			}
		}
		if v == incomplete {
			t.Errorf("%s: incomplete", name)
		}
		if v == doubtful && h.reason == "" {
			t.Errorf("%s: no reason", name)
		}
	}
}

func TestForeignBytesAreRuledOutEarly(t *testing.T) {
	for say, want := range map[string]verdict{
		"G": incomplete, "GET": incomplete, "GET ": incomplete, "GET /": incomplete, "GET / HTTP/1.": incomplete, "GET / HTTP/1.1\r": incomplete,
		"\x16": foreign, "\x00": foreign, "GET\r": foreign, "GET  ": foreign, "GET / x": foreign, "GET / HTTP/2": foreign,
		"PRI * HTTP/2": foreign, "\r\n": foreign, " ": foreign, "GET /\r": foreign, "SSH-2.0-OpenSSH_9\r": foreign,
		"*1\r": foreign, strings.Repeat("A", maxMethod): incomplete, strings.Repeat("A", maxMethod+1): foreign,
		"GET / HTTP/1.1\n": foreign, "GET / HTTP/1.11": foreign,
	} {
		if got := new(head).parse([]byte(say)); got != want {
			t.Errorf("%q: %d, want %d", say, got, want)
		}
	}
}

func TestSlowHeadIsReadOnce(t *testing.T) {
	// A head of 64 KiB in single bytes must not cost 64 Ki searches of 32 KiB each.
	say := []byte("GET / HTTP/1.1\r\nA: " + strings.Repeat("a", maxHead-64) + "\r\n\r\n")
	var h head
	for i := 1; i < len(say); i++ {
		if v := h.parse(say[:i]); v != incomplete {
			t.Fatalf("verdict %d after %d bytes", v, i)
		}
	}
	if v := h.parse(say); v != clean || h.n != len(say) {
		t.Fatalf("verdict %d, %d bytes of %d", v, h.n, len(say))
	}
}

func TestRepliesAreFramed(t *testing.T) {
	for say, want := range map[string]body{
		"HTTP/1.1 200 OK\r\n\r\n":                               {kind: endlessBody},
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n":          {kind: lengthBody, left: 3},
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":          {},
		"HTTP/1.1 200 OK\r\ntransfer-ENCODING: chunked\r\n\r\n": {kind: chunkedBody},
		"HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n": {},
		"HTTP/1.1 304 OK\r\nContent-Length: 5\r\n\r\n":          {},
		"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n": {},
		"HTTP/1.0 200\r\nConnection: keep-alive\r\n\r\n":        {kind: endlessBody},
	} {
		var r reply
		if v := r.parse([]byte(say)); v != clean || r.body(methodSafe) != want || r.body(methodHead) != (body{}) {
			t.Errorf("%q: verdict %d, body %+v, want %+v", say, v, r.body(methodSafe), want)
		}
	}
	for _, say := range []string{"HTTP/1.1 200 OK\n\n", "HTTP/1.1 20x OK\r\n\r\n", "HTTP/2 200\r\n\r\n", "ICY 200 OK\r\n\r\n", "HTTP/1.1 2000\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 O\x01K\r\n\r\n"} {
		if v := new(reply).parse([]byte(say)); v == clean || v == incomplete {
			t.Errorf("%q: verdict %d", say, v)
		}
	}
}

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A visit is by a client of others. In its command URL stands for where, HEADERS for what makes it one for the local process,
// and MEGABYTES for a file.
type visit struct {
	name  string
	argv  []string
	shows string // direct, so that both ways do not fail alike
}

var visits = []visit{
	{"curl", words("curl -sSi --http2-prior-knowledge HEADERS URL/plain?x=1"), "GET /plain?x=1 HTTP/2.0, 0 bytes"},
	{"curl HEAD", words("curl -sSI --http2-prior-knowledge HEADERS URL/"), "content-length: "},
	{"curl POST", words("curl -sSi --http2-prior-knowledge --data-binary @MEGABYTES HEADERS URL/"), "POST / HTTP/2.0, 2097152 bytes"},
	{"curl waits for 100", words("curl -sSi --http2-prior-knowledge -H expect:100-continue -T MEGABYTES HEADERS URL/"), "HTTP/2 100"},
	{"curl download", []string{"sh", "-c", `curl -sS --http2-prior-knowledge "$@" | sha256sum`, "sh", "HEADERS", "URL/download?n=20000000"}, "  -"},
	{"curl early hints", words("curl -sSi --http2-prior-knowledge HEADERS URL/early"), "HTTP/2 103"},
	{"curl large headers", append(words("curl -sSi --http2-prior-knowledge HEADERS URL/ -H"), "x-large: "+strings.Repeat("large ", 8000)), "48000 bytes"},
	{"nghttp", words("nghttp HEADERS URL/plain?x=1"), "GET /plain?x=1 HTTP/2.0, 0 bytes"},
	{"nghttp at once", words("nghttp -m 5 HEADERS URL/one URL/two URL/three"), "GET /three HTTP/2.0"},
	{"nghttp without dependencies", words("nghttp --no-dep HEADERS URL/"), "GET / HTTP/2.0"},
	{"nghttp pads", words("nghttp --padding=200 -d MEGABYTES HEADERS URL/"), "POST / HTTP/2.0, 2097152 bytes"},
	{"nghttp continues", words("nghttp --continuation HEADERS URL/"), "Continuation-Test-6"},
	{"nghttp small windows", words("nghttp -w 10 -W 10 HEADERS URL/download?n=300000"), "line 8000 "},
	{"nghttp large windows", words("nghttp -w 30 -W 30 HEADERS URL/download?n=300000"), "line 8000 "},
	{"nghttp no table", words("nghttp -c 0 -m 5 HEADERS URL/"), "GET / HTTP/2.0"},
	{"nghttp table changes", words("nghttp -c 65536 -m 5 HEADERS URL/"), "GET / HTTP/2.0"},
	{"nghttp small table", words("nghttp --encoder-header-table-size=128 -m 5 HEADERS URL/"), "GET / HTTP/2.0"},
	{"nghttp trailers", words("nghttp --trailer x-check:sum -d MEGABYTES HEADERS URL/"), "X-Check"},
	{"nghttp waits for 100", words("nghttp --expect-continue -d MEGABYTES HEADERS URL/"), "POST / HTTP/2.0, 2097152 bytes"},
	{"h2load", words("h2load -n 2000 -c 4 -m 50 HEADERS URL/"), "2000 2xx, 0 3xx"},
	{"h2load downloads", words("h2load -n 200 -c 4 -m 20 HEADERS URL/download?n=200000"), "200 2xx, 0 3xx"},
	{"h2load uploads", words("h2load -n 20 -c 2 -m 10 -d MEGABYTES HEADERS URL/"), "20 2xx, 0 3xx"},
	{"node", words("node client.js HEADERS URL get"), "a=1; b=2"},
	{"node early hints", words("node client.js HEADERS URL early"), `"early":103`},
	{"node trailers", words("node client.js HEADERS URL trailers"), "X-Check"},
	{"node statuses", words("node client.js HEADERS URL statuses"), `":status":204`},
	{"node pings", words("node client.js HEADERS URL ping"), "pong 8 bytes."},
	{"node settings", words("node client.js HEADERS URL settings"), `"bytes":3000000`},
	{"node cancels", words("node client.js HEADERS URL cancel"), `"code":8`},
	{"node tunnel", words("node client.js HEADERS URL tunnel"), "message 4;"},
}

func words(command string) []string { return strings.Fields(command) }

// TestClientsSeeTheSame has each client ask direct and through us, for the original and for the local process.
func TestClientsSeeTheSame(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	server := []string{"env", "GODEBUG=http2xconnect=1"} // tunnels
	s.original(t, append(server, small("http", original, fmt.Sprintf(":%d,:%d", claimed, unclaimed))...), claimed, unclaimed)
	s.session(t, header(mine), append(server, small("http", local, fmt.Sprintf(":%d", claimed))...)...)
	for _, v := range visits {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			s.compare(t, v)
			s.compare(t, v, mine)
		})
	}
}

// compare fails unless the client says the same of both ports, but for who answered if there are headers.
func (s *stage) compare(tb testing.TB, v visit, headers ...string) {
	tb.Helper()
	direct, through := s.visit(tb, unclaimed, v.argv, headers), s.visit(tb, claimed, v.argv, headers)
	if !strings.Contains(direct, v.shows) {
		tb.Errorf("direct, but without %q: %.2000s", v.shows, direct)
	}
	if len(headers) > 0 {
		if strings.Contains(through, original) {
			tb.Errorf("stolen, but by the original: %.2000s", through)
		}
		through = strings.ReplaceAll(through, local, original)
	}
	if direct != through {
		tb.Errorf("with the headers %q\ndirect:     %.2000s\nthrough us: %.2000s", headers, direct, through)
	}
}

// times are what differs from one answer to the next, and what h2load and nghttp say of how fast they were.
var times = regexp.MustCompile(`(?mi)^date: .*\n|^(finished|traffic|time for|time to|req/s|starting|spawning|application|progress|\s*min).*\n|^via: .*\n|\b[\d.]+(us|ms|s)\b|"date":"[^"]*",?`)

// visit runs a client and returns what it said that has to be the same every time.
func (s *stage) visit(tb testing.TB, port int, argv, headers []string) string {
	tb.Helper()
	var full []string
	for _, arg := range argv {
		switch {
		case arg == "HEADERS":
			for _, h := range headers {
				full = append(full, "-H", h)
			}
		case arg == "client.js":
			full = append(full, filepath.Join("testdata", arg))
		default:
			arg = strings.ReplaceAll(arg, "URL", "http://"+s.at(port))
			full = append(full, strings.ReplaceAll(arg, "MEGABYTES", megabytes(tb)))
		}
	}
	said, status := s.run(tb, full...)
	said = strings.ReplaceAll(said, s.at(port), "TARGET")
	if argv[0] == "nghttp" { // it says what comes first
		said = strings.Join(slices.Sorted(strings.Lines(said+"\n")), "")
	}
	return fmt.Sprintf("%s\nexit status %d", times.ReplaceAllString(said+"\n", ""), status)
}

// megabytes is a file of two megabytes.
func megabytes(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "two-megabytes")
	if err := os.WriteFile(path, make([]byte, 2<<20), 0o644); err != nil {
		tb.Fatal(err)
	}
	return path
}

// TestNodeMixesBothKindsOnOneConnection asks with and without the header at once.
func TestNodeMixesBothKindsOnOneConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.both(t, "http", "http")
	if said, status := s.run(t, "node", filepath.Join("testdata", "client.js"), "http://"+s.at(claimed), "mixed"); status != 0 || said != "200 requests" {
		t.Errorf("exit status %d: %s", status, said)
	}
}

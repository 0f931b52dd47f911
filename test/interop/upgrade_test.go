package interop

import (
	"fmt"
	"strings"
	"testing"
)

// upgraded are visits that begin in HTTP/1. What is below /mine is for the local process.
var upgraded = []visit{
	{"curl", words("curl -sSi --http2 URL/plain"), "HTTP/1.1 101"},
	{"curl twice", words("curl -sSi --http2 URL/plain URL/again"), "GET /again"},
	{"curl downloads", []string{"sh", "-c", `curl -sS --http2 "$@" | sha256sum`, "sh", "URL/plain", "URL/download?n=20000000"}, "  -"},
	{"curl POST", words("curl -sSi --http2 --data-binary @MEGABYTES URL/"), "2097152 bytes"},
	{"nghttp", words("nghttp -u URL/one URL/two URL/three"), "GET /three"},
	{"nghttp POST", words("nghttp -u -d MEGABYTES URL/"), "2097152 bytes"},
}

// TestUpgradesToHTTP2AreFollowed has nghttpx in front of the original: few others know h2c by Upgrade.
func TestUpgradesToHTTP2AreFollowed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.original(t, small("http", original, ":9001"), 9001)
	s.original(t, []string{
		"nghttpx", "--conf=/dev/null", "--workers=1", "--log-level=FATAL", "--backend=127.0.0.1,9001",
		fmt.Sprintf("--frontend=*,%d;no-tls", claimed), fmt.Sprintf("--frontend=*,%d;no-tls", unclaimed),
	}, claimed, unclaimed)
	s.session(t, []string{"--http-filter", `header("x-user: me") | path("^/mine")`}, small("http", local, fmt.Sprintf(":%d", claimed))...)
	for _, v := range upgraded {
		t.Run(v.name, func(t *testing.T) { s.compare(t, v) })
	}
	t.Run("a stream after it is stolen", func(t *testing.T) {
		said, _ := s.run(t, "nghttp", "-u", "http://"+s.at(claimed)+"/one", "http://"+s.at(claimed)+"/mine/two", "http://"+s.at(claimed)+"/three")
		for _, want := range []string{"original GET /one ", local + " GET /mine/two ", "original GET /three "} {
			if !strings.Contains(said, want) {
				t.Errorf("%q is missing in: %s", want, said)
			}
		}
	})
	t.Run("not done for the local process", func(t *testing.T) {
		said, status := s.run(t, "curl", "-sSi", "--http2", "-H", mine, "http://"+s.at(claimed)+"/mine")
		if status != 0 || !strings.HasPrefix(said, "HTTP/1.1 200 OK") || !strings.Contains(said, local+" GET /mine HTTP/1.1") || strings.Contains(said, "H2c") {
			t.Errorf("exit status %d: %s", status, said)
		}
	})
}

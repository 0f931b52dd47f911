package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// oddSettings are what nghttpd may be told, and how many streams of a connection h2load may use then: it does not wait for
// the settings.
var oddSettings = []struct {
	flags   string
	streams int
}{
	{"--max-concurrent-streams=1", 1}, {"--window-bits=10 --connection-window-bits=10", 5}, {"--window-bits=30 --connection-window-bits=30", 5},
	{"--header-table-size=0", 5}, {"--encoder-header-table-size=0", 5}, {"--header-table-size=65536 --encoder-header-table-size=65536", 5},
	{"--padding=255", 5}, {"--early-response", 5}, {"--echo-upload", 5}, {"--trailer=x-sum:1", 5},
}

// h2loads are loads; FILE is a file of half a megabyte.
var h2loads = []string{
	"h2load -n 60 -c 3 -m STREAMS HEADERS URL/", "h2load -n 30 -c 3 -m STREAMS -d FILE HEADERS URL/",
	"h2load -n 15 -c 3 -m STREAMS -w 12 -W 12 --header-table-size=0 --encoder-header-table-size=0 HEADERS URL/large",
}

// TestServersWithOddSettingsAnswerAll has nghttpd as the original and as the local process, one of them set in odd ways.
func TestServersWithOddSettingsAnswerAll(t *testing.T) {
	t.Parallel()
	files := openFolder(t)
	for name, size := range map[string]int{"index.html": 100, "large": 512 << 10} {
		if err := os.WriteFile(filepath.Join(files, name), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	nghttpd := func(flags string) []string {
		return append(append([]string{"nghttpd", "--no-tls", "--htdocs=" + files}, words(flags)...), strconv.Itoa(claimed))
	}
	for _, odd := range oddSettings {
		for name, flags := range map[string][2]string{original: {odd.flags, ""}, local: {"", odd.flags}} {
			t.Run(name+" "+odd.flags, func(t *testing.T) {
				t.Parallel()
				s := newStage(t)
				s.original(t, nghttpd(flags[0]), claimed)
				s.session(t, header(mine), nghttpd(flags[1])...)
				for _, load := range h2loads {
					for _, headers := range []string{"", "-H x-user:me"} {
						fill := strings.NewReplacer("HEADERS", headers, "URL", "http://"+s.at(claimed), "FILE", files+"/large", "STREAMS", strconv.Itoa(odd.streams))
						s.mustAnswerAll(t, fill.Replace(load))
					}
				}
			})
		}
	}
}

// mustAnswerAll fails unless all requests of h2load are answered well.
func (s *stage) mustAnswerAll(tb testing.TB, load string) {
	tb.Helper()
	argv := words(load)
	said, status := s.run(tb, argv...)
	if want := fmt.Sprintf(" %s 2xx, 0 3xx, 0 4xx, 0 5xx", argv[2]); status != 0 || !strings.Contains(said, want) {
		tb.Errorf("%s: exit status %d, %s", load, status, said)
	}
}

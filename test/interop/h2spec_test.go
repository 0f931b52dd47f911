package interop

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	// directRuns is how often each test is made without us, to know those that the server itself answers now so, now so.
	directRuns = 3
	// moreRuns is how often the direct way is tried for a verdict that it has not shown yet: some tests race with the server's
	// end of the connection, and lose once in twenty times.
	moreRuns = 10
	// leastTests is what h2spec 2.2.1 has: fewer would mean that we read its report wrongly.
	leastTests = 146
)

// shards are the sections of h2spec, in parts that run at the same time: most of it is waiting.
var shards = [][]string{
	{"generic", "hpack"}, {"http2/3.5", "http2/4"}, {"http2/5.1"}, {"http2/5.3", "http2/5.4", "http2/5.5", "http2/6.1", "http2/6.2", "http2/6.3"},
	{"http2/6.4", "http2/6.5", "http2/6.7", "http2/6.8", "http2/6.9", "http2/6.10"},
	{"http2/7", "http2/8.1/1", "http2/8.1.2/1", "http2/8.1.2.1"}, {"http2/8.1.2.2", "http2/8.1.2.3"}, {"http2/8.1.2.6", "http2/8.2"},
}

// h2specServers are those that h2spec tries: commands to listen on a port.
var h2specServers = map[string]func(tb testing.TB, name string, port int) []string{
	"Go": func(_ testing.TB, name string, port int) []string {
		return small("http", name, fmt.Sprintf(":%d", port))
	},
	"nghttpd": func(tb testing.TB, _ string, port int) []string {
		files := openFolder(tb)
		for _, name := range []string{"index.html", "mine"} {
			if err := os.WriteFile(filepath.Join(files, name), []byte("small\n"), 0o644); err != nil {
				tb.Fatal(err)
			}
		}
		return []string{"nghttpd", "--no-tls", "--workers=1", "--htdocs=" + files, strconv.Itoa(port)}
	},
	// Fails fourteen: whatever we mended on the way would show.
	"nginx": func(tb testing.TB, _ string, port int) []string {
		dir := openFolder(tb)
		conf := filepath.Join(dir, "nginx.conf")
		text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log /dev/null; events { worker_connections 512; }
http { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
server { listen %[2]d http2; location / { return 200 "small"; } } }
`, dir, port)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
		return []string{"nginx", "-e", "/dev/null", "-c", conf}
	},
}

func TestH2specSeesTheSameThroughAPassedPort(t *testing.T) {
	t.Parallel()
	for name, server := range h2specServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.original(t, server(t, original, claimed), claimed)
			s.original(t, server(t, original, unclaimed), unclaimed)
			s.session(t, header(mine), server(t, local, claimed)...)
			s.compareH2spec(t, nil)
		})
	}
}

// lax are the tests of h2spec that may fail where its requests are stolen, and why that does no harm. From the first such request
// on we judge what is no HTTP/2, since the original does not see all of the connection.
var lax = map[string]string{
	"http2/5.1: closed: Sends a HEADERS frame":                                                              "answered with RST_STREAM, where servers end the connection",
	"http2/5.1.2: Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded": "the limit is the original's, whom stolen streams do not burden: the session gets another connection",
	"http2/5.3.1: Sends HEADERS frame that depend on itself":                                                "RFC 9113 has no priorities of this kind any more: those of stolen streams are dropped",
	"http2/6.3: Sends a PRIORITY frame with a length other than 5 octets":                                   "the same",
}

// TestH2specSeesWhatIsListedWhereItsRequestsAreStolen has the local process be the same server as the original.
func TestH2specSeesWhatIsListedWhereItsRequestsAreStolen(t *testing.T) {
	t.Parallel()
	for name, server := range h2specServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.original(t, server(t, original, claimed), claimed)
			s.original(t, server(t, original, unclaimed), unclaimed)
			s.session(t, []string{"--http-path-filter", "^/mine"}, server(t, local, claimed)...)
			s.compareH2spec(t, lax, "-P", "/mine")
		})
	}
}

// verdicts is what h2spec says of each of its tests: passed, skipped, or failed and by what.
type verdicts map[string]verdict

type verdict struct {
	result string
	actual string // frame, if it failed
	number string // by which h2spec runs it alone
}

func (v verdict) String() string { return strings.TrimSpace(v.result + " " + v.actual) }

const (
	passed  = "passed"
	skipped = "skipped"
	failed  = "failed"
)

// compareH2spec fails for each test that has a result on the claimed port that it does not get on the other one, unless it is
// among those that may fail. Where there are any, we judge in the place of the server, and may do better.
func (s *stage) compareH2spec(tb testing.TB, worse map[string]string, flags ...string) {
	tb.Helper()
	var direct [directRuns]func() verdicts
	for i := range direct {
		direct[i] = s.h2spec(tb, unclaimed, flags...) // all at once, since much of its time is spent waiting
	}
	passing := s.h2spec(tb, claimed, flags...)
	seen := map[string][]verdict{}
	for _, run := range direct {
		note(seen, run())
	}
	through := passing()
	if len(through) != len(seen) || len(seen) < leastTests {
		tb.Fatalf("%d tests through us, %d without", len(through), len(seen))
	}
	alike := func(test string) bool {
		result := through[test].result
		return slices.ContainsFunc(seen[test], func(v verdict) bool { return v.result == result }) ||
			worse != nil && result == passed || worse[test] != "" && result == failed
	}
	different := slices.DeleteFunc(slices.Sorted(maps.Keys(seen)), alike)
	for n := 0; n < moreRuns && len(different) > 0; n++ {
		alone := append(flags[:len(flags):len(flags)], numbers(through, different)...)
		note(seen, s.startH2spec(tb, unclaimed, alone...)())
		if worse != nil { // What of two things comes first may be open where three parties speak.
			for test, v := range s.startH2spec(tb, claimed, alone...)() {
				v.number = through[test].number
				through[test] = v
			}
		}
		different = slices.DeleteFunc(different, alike)
	}
	for _, test := range different {
		tb.Errorf("%s: through us %v, direct %v", test, through[test], seen[test])
	}
	for test, verdicts := range seen {
		if len(verdicts) > 1 {
			tb.Logf("%s: direct now so, now so: %v", test, verdicts)
		}
	}
}

// note adds the verdicts of a run to those seen before.
func note(seen map[string][]verdict, run verdicts) {
	for test, verdict := range run {
		verdict.number = "" // which is another one where h2spec runs a test alone
		if !slices.Contains(seen[test], verdict) {
			seen[test] = append(seen[test], verdict)
		}
	}
}

// numbers are those of the tests.
func numbers(known verdicts, tests []string) (all []string) {
	for _, test := range tests {
		all = append(all, known[test].number)
	}
	return all
}

// h2spec starts all tests against a port of the target. What it returns waits for their end.
func (s *stage) h2spec(tb testing.TB, port int, flags ...string) func() verdicts {
	tb.Helper()
	var ends []func() verdicts
	for _, sections := range shards {
		ends = append(ends, s.startH2spec(tb, port, append(flags, sections...)...))
	}
	return func() verdicts {
		tb.Helper()
		all := verdicts{}
		for _, end := range ends {
			maps.Copy(all, end())
		}
		return all
	}
}

func (s *stage) startH2spec(tb testing.TB, port int, more ...string) func() verdicts {
	tb.Helper()
	host, number, _ := net.SplitHostPort(s.at(port))
	report := filepath.Join(tb.TempDir(), "report.xml")
	p := s.start(tb, append([]string{program("h2spec"), "-h", host, "-p", number, "-o", "1", "-S", "-j", report}, more...)...)
	return func() verdicts {
		tb.Helper()
		p.Status(tb)
		text, err := os.ReadFile(report)
		if err != nil {
			tb.Fatalf("h2spec left no report: %v\n%s", err, p.Output())
		}
		v, err := parseReport(text)
		if err != nil {
			tb.Fatalf("report of h2spec: %v", err)
		}
		return v
	}
}

// parseReport reads a report of h2spec. Tests are named by their section and what they do; where two have the same name, the
// second has a number.
func parseReport(text []byte) (verdicts, error) {
	var report struct {
		Suites []struct {
			Cases []struct {
				Package string  `xml:"package,attr"`
				What    string  `xml:"classname,attr"`
				Skipped *string `xml:"skipped"`
				Failure *string `xml:"failure"`
				Error   *string `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &report); err != nil {
		return nil, err
	}
	v := verdicts{}
	for _, suite := range report.Suites {
		for i, c := range suite.Cases {
			name := strings.TrimSpace(c.Package + ": " + c.What)
			for n := 2; v[name] != (verdict{}); n++ {
				name = fmt.Sprintf("%s: %s (%d)", c.Package, c.What, n)
			}
			number := fmt.Sprintf("%s/%d", c.Package, i+1)
			switch {
			case c.Failure != nil:
				v[name] = verdict{failed, actual(*c.Failure), number}
			case c.Error != nil:
				v[name] = verdict{failed, actual(*c.Error), number}
			case c.Skipped != nil:
				v[name] = verdict{skipped, "", number}
			default:
				v[name] = verdict{passed, "", number}
			}
		}
	}
	return v, nil
}

// actual finds what came in the place of what was expected: the last line.
func actual(why string) string {
	lines := strings.Split(strings.TrimSpace(why), "\n")
	return lines[len(lines)-1]
}

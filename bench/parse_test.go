package main

import (
	"slices"
	"testing"
	"time"
)

func TestWhatWrkSaysIsReadInItsUnits(t *testing.T) {
	const said = `Running 3s test @ http://198.18.77.2:8080/
  1 threads and 1000 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.07ms    1.02ms  23.03ms   93.31%
    Req/Sec    65.96k     7.72k   79.84k    73.33%
  Latency Distribution
     50%  870.00us
     75%    1.18ms
     90%    1.75ms
     99%    1.02s
  196912 requests in 3.00s, 33.80MB read
  Socket errors: connect 0, read 2, write 0, timeout 5
  Non-2xx or 3xx responses: 7
Requests/sec:  65602.07
Transfer/sec:     11.26MB
`
	got, err := parseWrk(said)
	want := result{requests: 196912, perSecond: 65602.07, p50: 870 * time.Microsecond, p99: 1020 * time.Millisecond, errors: 14}
	if err != nil || got != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestWhatIsNotFromWrkIsRefused(t *testing.T) {
	if r, err := parseWrk("unable to connect to 198.18.77.2:8080 Connection refused\n"); err == nil {
		t.Errorf("read %+v", r)
	}
}

func TestTheTwoWaysToRunAProgramMeetInOneRow(t *testing.T) {
	const said = `goos: linux
BenchmarkCalls/connect_198.18.0.20:80/native-2         	       3	        18.22 µs/call
BenchmarkCalls/connect_198.18.0.20:80/layer-2          	       3	       673.0 µs/call
BenchmarkAccept/native         	       3	        40.33 µs/connection
BenchmarkAccept/layer          	       3	       268.1 µs/connection
BenchmarkStart/node/native-2                           	       3	        31.11 ms/start
--- SKIP: BenchmarkStart/java/native
BenchmarkStart/node/layer-2                            	       3	        47.22 ms/start
PASS
`
	want := []cost{
		{"connect 198.18.0.20:80", "µs", 18.22, 673},
		{"accept", "µs", 40.33, 268.1},
		{"start node", "ms", 31.11, 47.22},
	}
	if got := parseCosts([]byte(said)); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestFiguresOfAMedianAreTakenEachByItself(t *testing.T) {
	got := median([]result{
		{perSecond: 3, p99: 10, errors: 1, requests: 5}, {perSecond: 1, p99: 30, requests: 5}, {perSecond: 2, p99: 20, errors: 1, requests: 5},
	})
	if want := (result{perSecond: 2, p99: 20, errors: 2, requests: 15}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWhatH2loadSaysIsReadInItsUnits(t *testing.T) {
	const said = `finished in 2.00s, 532752.00 req/s, 36.58MB/s
requests: 1065504 total, 1066016 started, 1065504 done, 1065490 succeeded, 7 failed, 1 errored, 2 timeout
status codes: 1065490 2xx, 3 3xx, 0 4xx, 4 5xx
traffic: 73.16MB (76718704) total, 11.18MB (11722576) headers (space savings 93.71%), 43.69MB (45816672) data
                     min         max         mean         sd        +/- sd
time for request:       84us      6.97ms       950us       241us    92.21%
time for connect:       41us       301us       174us        81us    62.50%
`
	got, err := parseH2load(said)
	want := result{requests: 1065504, perSecond: 532752, most: 6970 * time.Microsecond, mean: 950 * time.Microsecond, errors: 17}
	if err != nil || got != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if r, err := parseH2load("Nobody is there.\n"); err == nil {
		t.Errorf("read %+v", r)
	}
}

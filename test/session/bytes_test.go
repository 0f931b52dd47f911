package session

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// odd are conversations that are right as they are, and easily put right by who is in between.
var odd = map[string][]turn{
	"case, order and spacing": {{
		"GET /a%2fb//c/../d?q=%zz HTTP/1.1\r\nhOsT: Shop\r\nX-b:2\r\nX-a:    1  \r\nx-B:\t3\t\r\nACCEPT: */*\r\nX-Empty:\r\n\r\n",
		"HTTP/1.1 200 Very  OK\r\nx-ANSWER:  a \r\nSet-Cookie: b\r\nset-cookie: a\r\ncontent-LENGTH: 3\r\nX-Empty:\r\n\r\nabc",
	}},
	"chunks with extensions and trailers": {{
		"POST /up HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nTransfer-Encoding: ChunkeD\r\nTrailer: X-Sum\r\n\r\n" +
			"00003;a=b;c=\"d;e\"\r\nabc\r\nA ; x\r\n0123456789\r\n000\r\nX-Sum:  7 \r\nx-other: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-encoding: chunked\r\nTrailer: x-t\r\n\r\n1;q\r\nz\r\n02\r\nyx\r\n0;last\r\nx-T:  v\r\n\r\n",
	}},
	"keep-alive": {
		{"GET /1 HTTP/1.1\r\nHost: shop\r\n\r\n", "HTTP/1.1 204 No Content\r\nX-Odd: 1\r\n\r\n"},
		{"HEAD /2 HTTP/1.1\r\nHost: shop\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"},
		{"POST /3 HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nGET ", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		{"\r\nGET /4 HTTP/1.1\r\nHost: shop\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n"},
		{"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"},
	},
	"until the end": {{
		"GET / HTTP/1.0\r\nConnection: what-ever\r\n\r\n",
		"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nno length at all\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	}},
	"a body of NULs": {{
		"PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("\x00", 100000),
		"HTTP/1.1 201 Created\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("\x00\xff", 50000),
	}},
}

// malformed are requests that carry our header but must not come to us: two readers could read them differently, or
// none can.
var malformed = map[string]string{
	"length and chunks":     "POST / HTTP/1.1\r\nHost: a\r\nX-User: me\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"two lengths":           "POST / HTTP/1.1\r\nHost: a\r\nX-User: me\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
	"length with a sign":    "POST / HTTP/1.1\r\nHost: a\r\nX-User: me\r\nContent-Length: +4\r\n\r\nabcd",
	"folded line":           "GET / HTTP/1.1\r\nHost: a\r\nX-Long: a\r\n b\r\nX-User: me\r\n\r\n",
	"bare line feeds":       "GET / HTTP/1.1\nHost: a\nX-User: me\n\n",
	"space before a colon":  "GET / HTTP/1.1\r\nHost: a\r\nX-User : me\r\n\r\n",
	"two codings":           "POST / HTTP/1.1\r\nHost: a\r\nX-User: me\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
	"NUL in a value":        "GET / HTTP/1.1\r\nHost: a\r\nX-Odd: a\x00b\r\nX-User: me\r\n\r\n",
	"no version":            "GET /\r\nX-User: me\r\n\r\n",
	"version of the future": "GET / HTTP/3.7\r\nHost: a\r\nX-User: me\r\n\r\n",
	"no method":             " / HTTP/1.1\r\nHost: a\r\nX-User: me\r\n\r\n",
	"a head without end":    "GET / HTTP/1.1\r\nHost: a\r\nX-User: me\r\nX-Long: " + strings.Repeat("x", 70<<10) + "\r\n\r\n",
	"TLS":                   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("r", 500),
	"not a word":            "\x00\x01\x02\x03",
}

func TestWhatIsPassedIsPassedToTheByte(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	r := startRecorder(t, n, ":8080")
	addr := net.JoinHostPort(n.Target.Addr4.String(), "8080")
	conversations := map[string][]turn{}
	for name, turns := range odd {
		conversations[name] = turns
	}
	for name, request := range malformed {
		conversations["malformed: "+name] = []turn{{request, "HTTP/1.1 400 As  You Like\r\nconnection: close\r\n\r\nno\n"}}
	}
	type way struct {
		name      string
		pipelined bool
		piece     int
	}
	ways := []way{{"whole", false, 1 << 20}, {"pipelined", true, 1 << 20}, {"in pieces", false, 1000}}
	direct := map[string][2]string{}
	for name, turns := range conversations {
		for _, w := range ways {
			original, client := r.have(t, n.Client, addr, turns, w.pipelined, w.piece)
			direct[name+w.name] = [2]string{original, client}
		}
	}
	m := startSession(t, n)
	for name, turns := range conversations {
		for _, w := range ways {
			t.Run(fmt.Sprintf("%s, %s", name, w.name), func(t *testing.T) {
				original, client := r.have(t, n.Client, addr, turns, w.pipelined, w.piece)
				if want := direct[name+w.name]; original != want[0] {
					t.Errorf("the original heard %.500q, without us %.500q", original, want[0])
				} else if client != want[1] {
					t.Errorf("the client heard %.500q, without us %.500q", client, want[1])
				}
			})
		}
	}
	// All of it left the agent as it was.
	if a := mustGet(t, n.Client, addr, "/", "x-user: me"); a.by != "local" {
		t.Errorf("after all that, answered by %q", a.by)
	}
	m.Stop(t)
	m.WaitFor(t, "took 1 connection")
}

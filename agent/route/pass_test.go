package route

import (
	"strings"
	"testing"
)

// passed are conversations with the original that must look the same with and without us.
var passed = map[string][]step{
	"one":  {{get, original}},
	"many": {{get, original}, {get, original}, {get, original}},
	"case, order and spacing": {{
		"GET /a?b HTTP/1.1\r\nhOsT:shop\r\nB:  1  \r\na:\t2\r\nB:\r\n\r\n",
		"HTTP/1.1 200\r\nb:1\r\nA:   2\r\ncontent-LENGTH:  2\r\n\r\nhi",
	}},
	"content-length": {{"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", original}, {get, original}},
	"chunked": {{
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b;c=\"d\"\r\nhello\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\nTrail: er\r\n\r\n",
	}, {get, original}},
	"pipelined": {{get + get + get, original + original + original}},
	"pipelined bodies": {{
		"POST /1 HTTP/1.1\r\nContent-Length: 2\r\n\r\nab" + get + "POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" + get,
		original + original + original + original,
	}},
	"head":     {{"HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"}, {get, original}},
	"204, 304": {{get, "HTTP/1.1 204 No Content\r\n\r\n"}, {get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"}, {get, original}},
	"interim":  {{get, strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 20) + original}, {get, original}},
	"continue": {
		{"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n"},
		{"abc", original}, {get, original},
	},
	"final instead of continue": {
		{"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"},
	},
	"HTTP/1.0":            {{"GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nuntil the end"}},
	"HTTP/1.0 keep-alive": {{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx"}, {get, original}},
	"close":               {{"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end"}},
	"upgrade": {
		{"GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n", "HTTP/1.1 101 Switching\r\nUpgrade: echo\r\n\r\nhello from the server"},
		{"\x00\x01GET / HTTP/1.1", "\xff\xfe"}, {"HTTP/1.1 200 OK\r\n\r\n", "x"},
	},
	"upgrade refused": {{"GET / HTTP/1.1\r\nUpgrade: odd\r\n\r\n", original}, {get, original}},
	"connect":         {{"CONNECT shop:443 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"}, {"\x16\x03\x01", "\x16\x03\x03"}},
	"connect refused": {{"CONNECT shop:443 HTTP/1.1\r\n\r\n", "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"}, {get, original}},
	"h2 preface":      {{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x00\x04\x01\x00\x00\x00\x00"}, {"\x00\x00\x00\xff\x00\x00\x00\x00\x00", "\x00\x00\x00\xff\x00\x00\x00\x00\x01"}},
	"tls":             {{"\x16\x03\x01\x00\x05hello", "\x16\x03\x03"}, {"\x17", "\x17"}},
	"text protocol":   {{"PING\r\n", "+PONG\r\n"}, {"get key\r\n", "END\r\n"}},
	"bare LF":         {{"GET / HTTP/1.1\nHost: a\n\n", original}},
	"answer not HTTP": {{get, "oops\r\n"}, {"more", "and more"}},
	"answer in doubt": {{get, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"}, {get, original}},
}

func TestPassedBytesAreAsWithoutUs(t *testing.T) {
	for name, steps := range passed {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := mustListen(t, scripted(t, steps...))
			for way, addr := range map[string]string{"direct": addr, "through": mustStageClaimed(t, addr).addr} {
				conn := mustDial(t, addr)
				play(t, conn, steps...)
				_ = conn.CloseWrite()
				expectEnd(t, conn)
				t.Log(way)
			}
		})
	}
}

// The same byte by byte, so that every place where a message may be torn is met.
func TestTornBytesArePassedAlike(t *testing.T) {
	for name, steps := range passed {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := mustStageClaimed(t, mustListen(t, scripted(t, steps...))).addr
			conn := mustDial(t, addr)
			for _, s := range steps {
				for i := range len(s.say) {
					if _, err := conn.Write([]byte(s.say[i : i+1])); err != nil {
						t.Fatal(err)
					}
				}
				if !expect(t, conn, s.answer) {
					return
				}
			}
			_ = conn.CloseWrite()
			expectEnd(t, conn)
		})
	}
}

// mustStageClaimed is a stage with a claim that wants none of the requests that are passed.
func mustStageClaimed(tb testing.TB, originalAddr string) *stage {
	s := mustStage(tb, originalAddr, 0)
	s.claim("me", mine, mustListen(tb, scripted(tb)))
	return s
}

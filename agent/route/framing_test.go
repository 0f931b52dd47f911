package route

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
)

// In doubt are requests that two parsers could read differently, each with the matching header.
var inDoubt = map[string]string{
	"length and encoding": "POST / HTTP/1.1\r\n" + mine + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"encoding and length": "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
	"two lengths":         "POST / HTTP/1.1\r\n" + mine + "\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
	"differing lengths":   "POST / HTTP/1.1\r\n" + mine + "\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
	"list of lengths":     "POST / HTTP/1.1\r\n" + mine + "\r\nContent-Length: 1, 1\r\n\r\nx",
	"signed length":       "POST / HTTP/1.1\r\n" + mine + "\r\nContent-Length: +1\r\n\r\nx",
	"negative length":     "POST / HTTP/1.1\r\n" + mine + "\r\nContent-Length: -1\r\n\r\nx",
	"spaced length":       "POST / HTTP/1.1\r\n" + mine + "\r\nContent-Length: 1 1\r\n\r\nx",
	"tabbed length":       "POST / HTTP/1.1\r\n" + mine + "\r\nContent-Length:\t1\r\n\r\nx",
	"hex length":          "POST / HTTP/1.1\r\n" + mine + "\r\nContent-Length: 0x1\r\n\r\nx",
	"empty length":        "POST / HTTP/1.1\r\n" + mine + "\r\nContent-Length:\r\n\r\nx",
	"huge length":         "POST / HTTP/1.1\r\n" + mine + "\r\nContent-Length: 9999999999999999999\r\n\r\nx",
	"gzip, chunked":       "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	"chunked, identity":   "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
	"identity":            "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: identity\r\n\r\nx",
	"xchunked":            "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
	"chunked twice":       "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"tabbed encoding":     "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
	"chunked in 1.0":      "POST / HTTP/1.0\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"folded":              "GET / HTTP/1.1\r\n" + mine + "\r\nA: b\r\n c\r\n\r\n",
	"folded first":        "GET / HTTP/1.1\r\n A: b\r\n" + mine + "\r\n\r\n",
	"bare LF in fields":   "GET / HTTP/1.1\r\n" + mine + "\nA: b\r\n\r\n",
	"bare LF at the end":  "GET / HTTP/1.1\r\n" + mine + "\r\n\n",
	"bare CR":             "GET / HTTP/1.1\r\n" + mine + "\r\nA: b\rc\r\n\r\n",
	"NUL":                 "GET / HTTP/1.1\r\n" + mine + "\r\nA: b\x00c\r\n\r\n",
	"control byte":        "GET / HTTP/1.1\r\n" + mine + "\r\nA: long enough to be seen \x01 as a word\r\n\r\n",
	"DEL":                 "GET / HTTP/1.1\r\n" + mine + "\r\nA: \x7f\r\n\r\n",
	"space before colon":  "GET / HTTP/1.1\r\n" + mine + "\r\nA : b\r\n\r\n",
	"space in name":       "GET / HTTP/1.1\r\n" + mine + "\r\nTransfer Encoding: b\r\n\r\n",
	"empty name":          "GET / HTTP/1.1\r\n" + mine + "\r\n: b\r\n\r\n",
	"no colon":            "GET / HTTP/1.1\r\n" + mine + "\r\nA\r\n\r\n",
	"two spaces":          "GET  / HTTP/1.1\r\n" + mine + "\r\n\r\n",
	"space at the end":    "GET / HTTP/1.1 \r\n" + mine + "\r\n\r\n",
	"another version":     "GET / HTTP/1.2\r\n" + mine + "\r\n\r\n",
	"connect with a body": "CONNECT a:1 HTTP/1.1\r\n" + mine + "\r\nContent-Length: 1\r\n\r\nx",
	"chunk size not hex":  "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
	"chunk size signed":   "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
	"chunk size spaced":   "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
	"chunk size huge":     "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n1234567890abcdef\r\na\r\n0\r\n\r\n",
	"chunk without size":  "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n;a\r\na\r\n0\r\n\r\n",
	"chunk with bare LF":  "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
	"chunk extension LF":  "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n1;a\n\r\na\r\n0\r\n\r\n",
	"chunk too long":      "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
	"trailer folded":      "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n",
	"trailer bare LF":     "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n",
	"head too large":      "GET / HTTP/1.1\r\n" + mine + "\r\nA: " + strings.Repeat("a", maxHead) + "\r\n\r\n",
	"too many fields":     "GET / HTTP/1.1\r\n" + mine + "\r\n" + strings.Repeat("A:\r\n", maxFields) + "\r\n",
	"long extension":      "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("a", maxChunkLine+1) + "\r\na\r\n0\r\n\r\n",
}

func TestFramingInDoubtIsTheOriginalsFromItsFirstByte(t *testing.T) {
	for name, say := range inDoubt {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const answer = "whatever the original says"
			// First a stolen and a passed request, then the one in doubt with a matching one behind it: all raw.
			steps := []step{{get, original}, {say + getMine, answer}}
			s := mustStage(t, mustListen(t, scripted(t, steps...)), 0)
			s.claim("me", mine, mustListen(t, scripted(t, step{getMine, local})))
			conn := mustDial(t, s.addr)
			play(t, conn, step{getMine, local})
			play(t, conn, steps...)
			_ = conn.CloseWrite()
			expectEnd(t, conn)
		})
	}
}

func TestBodyThatStopsMakingSenseIsGivenToNobodyElse(t *testing.T) {
	head := "POST / HTTP/1.1\r\n" + mine + "\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
	began := make(chan struct{})
	s := mustStage(t, mustListen(t, scripted(t)), 0)
	s.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) {
		expect(t, conn, head)
		close(began)
		if rest, _ := io.ReadAll(conn); len(rest) > 0 {
			t.Errorf("session got %q", rest)
		}
	}))
	conn := mustDial(t, s.addr)
	_, _ = io.WriteString(conn, head)
	<-began
	_, _ = io.WriteString(conn, "zz\r\n\r\n"+getMine)
	if status, body := readBody(t, bufio.NewReader(conn), "POST"); status != 502 || !strings.Contains(body, "chunks") {
		t.Fatalf("%d %q", status, body)
	}
}

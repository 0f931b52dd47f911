package route

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// longSeed is where a conversation is no seed: the engine is slow with long ones.
const longSeed = 1 << 10

// FuzzRequest holds us against net/http: what we call clean, it must read as the same method, target and fields and end at the
// same byte, and what it refuses we must not call clean, but for the reasons that excused lists. However the bytes are torn, we
// must come to the same verdict.
func FuzzRequest(f *testing.F) {
	for _, o := range corpus(f) {
		if say := o.says(); len(say) < longSeed {
			f.Add([]byte(say), 3)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, torn int) {
		var h head
		if h.parse(b) != clean {
			return
		}
		end, v := measure(b)
		if again, v2 := measureTorn(b, max(1, torn&0xff)); v2 != v || again != end {
			t.Fatalf("torn: %d, %d; whole: %d, %d", again, v2, end, v)
		}
		req, theirs, err := readRequest(b)
		switch {
		case excused(err):
			return
		case req == nil:
			t.Fatalf("clean for us, and for net/http %v: %q", err, b)
		case string(b[:h.name]) != req.Method, string(b[h.name+1:h.target]) != req.RequestURI:
			t.Fatalf("net/http reads %s %s: %q", req.Method, req.RequestURI, b)
		}
		sameFields(t, &h, b, req)
		switch {
		case v == clean && (err != nil || theirs != end):
			t.Fatalf("ends at %d for us, at %d for net/http, which says %v: %q", end, theirs, err, b)
		case v == incomplete && !wantsMore(err):
			t.Fatalf("is not complete for us, and for net/http %v: %q", err, b)
		}
	})
}

// readRequest reads the first request of b with net/http. It returns where it ends, and the head even when its body is bad.
func readRequest(b []byte) (*http.Request, int, error) {
	src := bytes.NewReader(b)
	r := bufio.NewReaderSize(src, maxHead) // a line of a chunk and all trailers have to fit
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, 0, err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return req, len(b) - src.Len() - r.Buffered(), err
}

// wantsMore reports whether net/http came to the end of the bytes before that of the request. It looks for the end of all trailers.
func wantsMore(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "unexpected EOF") || strings.Contains(err.Error(), "long trailer"))
}

// excused reports whether net/http refuses a request for what is no matter of framing: a target that it cannot parse, a trailer
// that was announced by a name that it does not allow there, chunks whose extensions outweigh their data, and a second Host.
func excused(err error) bool {
	var target *url.Error
	if err == nil {
		return false
	}
	for _, reason := range []string{"bad trailer key", "chunked encoding contains too much", "too many Host headers"} {
		if strings.Contains(err.Error(), reason) {
			return true
		}
	}
	return errors.As(err, &target)
}

// sameFields compares our fields with those of net/http, which keeps some in places of their own.
func sameFields(t *testing.T, h *head, b []byte, req *http.Request) {
	t.Helper()
	ours := http.Header{}
	for _, f := range h.fields {
		ours.Add(textproto.CanonicalMIMEHeaderKey(string(b[f.name:f.colon])), string(b[f.value:f.end]))
	}
	if host := ours.Get("Host"); host != req.Host && !strings.Contains(req.RequestURI, "//") && h.method != methodConnect {
		t.Fatalf("the host is %q, for net/http %q: %q", host, req.Host, b)
	}
	if encoding := req.TransferEncoding; len(encoding) > 0 != h.chunked {
		t.Fatalf("the encoding is %q for net/http: %q", encoding, b)
	}
	for _, name := range []string{"Host", "Transfer-Encoding", "Trailer", "Cache-Control"} {
		delete(ours, name)
		delete(req.Header, name)
	}
	if !maps.EqualFunc(ours, req.Header, slices.Equal[[]string]) {
		t.Fatalf("the fields are %q, for net/http %q: %q", ours, req.Header, b)
	}
}

// measure returns how far the first request of b, whose head is clean, can be followed: to its end, to where it is in doubt, or as
// far as there are bytes.
func measure(b []byte) (int, verdict) {
	return measureTorn(b, len(b))
}

// measureTorn is measure for bytes that come in pieces. With a head that is not clean it returns 0.
func measureTorn(b []byte, piece int) (int, verdict) {
	var h head
	i := min(piece, len(b))
	v := h.parse(b[:i])
	for ; v == incomplete && i < len(b); v = h.parse(b[:i]) {
		i = min(i+piece, len(b))
	}
	if v != clean {
		return 0, v
	}
	body := h.body()
	end := h.n
	for body.open() && end < len(b) {
		n, ok := body.feed(b[end:min(end+piece, len(b))])
		if end += n; !ok {
			return end, doubtful
		}
	}
	if body.open() {
		return end, incomplete
	}
	return end, clean
}

func FuzzReply(f *testing.F) {
	for _, o := range corpus(f) {
		for _, t := range o.turns {
			if len(t.answer) < longSeed {
				f.Add([]byte(t.answer))
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r reply
		if r.parse(b) != clean || r.status < 200 {
			return
		}
		body := r.body(methodSafe)
		n, ok := body.feed(b[r.n:])
		if !ok || body.open() {
			return
		}
		src := bytes.NewReader(b)
		br := bufio.NewReaderSize(src, 16)
		resp, err := http.ReadResponse(br, &http.Request{Method: "GET"})
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return
		}
		if theirs := len(b) - src.Len() - br.Buffered(); theirs != r.n+n {
			t.Fatalf("ends at %d for us, at %d for net/http: %q", r.n+n, theirs, b)
		}
	})
}

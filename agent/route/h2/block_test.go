package h2

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestBlocksAreSplitAtTheFrameSize(t *testing.T) {
	priority := []byte{0, 0, 0, 0, 9}
	for _, n := range []int{0, 1, plainFrame - 5, plainFrame - 4, plainFrame, 3 * plainFrame} {
		block := bytes.Repeat([]byte("x"), n)
		b := appendBlock(nil, 7, block, plainFrame, true, priority)
		var joined []byte
		for rest, first := b, true; len(rest) > 0; first = false {
			h := readHeader(rest)
			fragment := rest[headerLen : headerLen+h.length]
			rest = rest[headerLen+h.length:]
			if h.stream != 7 || h.length > plainFrame || h.has(flagEndHeaders) != (len(rest) == 0) {
				t.Errorf("%d: %+v", n, h)
			}
			if want := map[bool]http2.FrameType{true: http2.FrameHeaders, false: http2.FrameContinuation}[first]; h.kind != want {
				t.Errorf("%d: %v, want %v", n, h.kind, want)
			}
			if first {
				var got []byte
				var ok bool
				if fragment, got, ok = h.fragment(fragment); !ok || !bytes.Equal(got, priority) || !h.has(flagEndStream) {
					t.Errorf("%d: %+v with priority %v", n, h, got)
				}
			}
			joined = append(joined, fragment...)
		}
		if !bytes.Equal(joined, block) {
			t.Errorf("%d: joined to %d bytes", n, len(joined))
		}
	}
}

// What a session answers must leave the table of the client's decoder to the original.
func TestAnswersOfSessionsTouchNoTable(t *testing.T) {
	fields := []hpack.HeaderField{
		{Name: ":status", Value: "200"}, {Name: ":status", Value: "299"}, {Name: "x-name", Value: strings.Repeat("long ", 100)},
		{Name: "content-type", Value: "text/plain"}, {Name: "empty", Value: ""}, {Name: "x-secret", Value: "\x80\xff", Sensitive: true},
	}
	var got []hpack.HeaderField
	decoder := hpack.NewDecoder(plainTable, func(f hpack.HeaderField) { got = append(got, f) })
	decode := func(b []byte) {
		t.Helper()
		got = nil
		if _, err := decoder.Write(b); err != nil || decoder.Close() != nil {
			t.Fatal(err)
		}
	}
	var code bytes.Buffer
	encoder := hpack.NewEncoder(&code)
	own := hpack.HeaderField{Name: "x-original", Value: "in the table"}
	for range 3 {
		code.Reset()
		_ = encoder.WriteField(own)
		decode(code.Bytes())
		if !slices.Equal(got, []hpack.HeaderField{own}) {
			t.Fatalf("the original's became %v", got)
		}
		decode(encodePlain(fields))
		if !slices.Equal(got, fields) {
			t.Fatalf("got %v, want %v", got, fields)
		}
	}
}

func TestRequestsAreShownToFiltersAsInHTTP1(t *testing.T) {
	show := func(pairs ...string) string {
		var fields []hpack.HeaderField
		for i := 0; i < len(pairs); i += 2 {
			fields = append(fields, hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
		}
		var k blocks
		r := k.requestOf(fields)
		if r == nil {
			return "none"
		}
		var b strings.Builder
		b.WriteString(string(r.Method) + " " + string(r.Path))
		for _, f := range r.Fields {
			b.WriteString("|" + string(f.Name) + ": " + string(f.Value))
		}
		return b.String()
	}
	for _, c := range []struct {
		want  string
		pairs []string
	}{
		{"GET /?q|host: shop|x-user: me", []string{":method", "GET", ":scheme", "http", ":authority", "shop", ":path", "/?q", "x-user", " me\t"}},
		{"GET /|a: 1|cookie: b=c; d=e", []string{":method", "GET", ":path", "/", "cookie", "b=c", "a", "1", "cookie", "d=e"}},
		{"CONNECT shop:443|host: shop:443", []string{":method", "CONNECT", ":authority", "shop:443"}},
		{"CONNECT /chat|host: shop", []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "shop", ":path", "/chat"}},
		{"none", []string{":method", "GET"}},
		{"none", []string{":path", "/"}},
		{"none", []string{":method", "GET", "x-user", "me", ":path", "/"}},
		{"none", []string{":method", "GET", ":path", "/", "X-User", "me"}},
		{"none", []string{":method", "GET", ":path", "/", "x-user", "me\r\nx: y"}},
		{"none", []string{":method", "GET", ":path", "/ HTTP/1.1"}},
	} {
		if got := show(c.pairs...); got != c.want {
			t.Errorf("%q: %q, want %q", c.pairs, got, c.want)
		}
	}
}

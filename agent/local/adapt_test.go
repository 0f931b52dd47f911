package local

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"reflect"
	"strings"
	"testing"
)

// seen is what the local process saw of a request.
type seen struct {
	Method, URI, Host string
	Header, Trailer   http.Header
	Body              string
}

func report(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = []byte(err.Error())
	}
	_ = json.NewEncoder(w).Encode(seen{r.Method, r.RequestURI, r.Host, r.Header, r.Trailer, string(body)})
}

// What a client sends arrives as it does without us in between.
func TestEveryRequestArrivesAsItWasSent(t *testing.T) {
	for _, pair := range pairs {
		t.Run(pair.name, func(t *testing.T) {
			direct, through := mustServe(t, pair.from, report), mustServe(t, pair.to, report)
			s := mustStage(t, through, pair.from, pair.to)
			clients := []*http.Client{mustClient(t, pair.from, nil), s.client()}
			for _, row := range []struct {
				method, uri, body string
				header            http.Header
			}{
				{"GET", "/", "", nil},
				{"GET", "/a%2Fb/../c//d?x=1;y=2&z=%zz&&=", "", nil},
				{"GET", "/a?", "", nil},
				{"GET", "//double", "", nil},
				{"GET", "/%7Euser/~user/ü%C3%BC|", "", nil},
				{"GET", "/", "", http.Header{"User-Agent": {""}}},
				{"GET", "/", "", http.Header{"User-Agent": {"curl/8"}, "Accept-Encoding": {"br, gzip"}, "X-Forwarded-For": {"10.0.0.1, 10.0.0.2"},
					"X-Forwarded-Proto": {"https"}, "Forwarded": {"for=10.0.0.1"}, "Via": {"1.1 gate"}, "X-User": {"me", "you"}, "Cookie": {"a=b; c=d"}, "Te": {"trailers"}}},
				{"POST", "/p", "hello", nil},
				{"PUT", "/p", "", nil},
				{"DELETE", "/p", "", nil},
				{"BREW", "/pot", "x", nil},
				{"OPTIONS", "*", "", nil},
			} {
				var got [2]seen
				for i, addr := range []string{direct, through} {
					r := mustRequest(t, row.method, "http://"+addr+"/", strings.NewReader(row.body))
					if r.URL.Opaque = row.uri; row.uri == "//double" || row.uri == "*" {
						r.URL.Opaque, r.URL.Path = "", row.uri
					}
					if row.body == "" {
						r.Body = nil
					}
					r.Host = "shop.example"
					if row.header != nil {
						r.Header = row.header.Clone()
					}
					_, body := mustDo(t, clients[i], r)
					if err := json.Unmarshal([]byte(body), &got[i]); err != nil {
						t.Fatalf("%s %s: %q", row.method, row.uri, body)
					}
				}
				if !reflect.DeepEqual(got[0], got[1]) {
					t.Errorf("%s %s: %+v, want %+v", row.method, row.uri, got[1], got[0])
				}
			}
		})
	}
}

func TestTrailersOfARequestArrive(t *testing.T) {
	for _, pair := range pairs {
		t.Run(pair.name, func(t *testing.T) {
			s := mustStage(t, mustServe(t, pair.to, report), pair.from, pair.to)
			r := mustRequest(t, "POST", "http://local/", io.MultiReader(strings.NewReader("hello")))
			r.Trailer = http.Header{"X-Sum": {"42"}}
			_, body := mustDo(t, s.client(), r)
			var got seen
			if json.Unmarshal([]byte(body), &got) != nil || got.Trailer.Get("X-Sum") != "42" || got.Body != "hello" {
				t.Errorf("%s", body)
			}
		})
	}
}

// answers are given by the local process, by path.
var answers = map[string]http.HandlerFunc{
	"/plain":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>guess me") },
	"/untyped":  func(w http.ResponseWriter, _ *http.Request) { untyped(w); _, _ = io.WriteString(w, "<html>guess me") },
	"/empty":    func(w http.ResponseWriter, _ *http.Request) { untyped(w) },
	"/204":      func(w http.ResponseWriter, _ *http.Request) { untyped(w); w.WriteHeader(204) },
	"/304":      func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Etag", `"a"`); w.WriteHeader(304) },
	"/404":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 404) },
	"/redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/plain", http.StatusFound) },
	"/length": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		if r.Method != "HEAD" {
			_, _ = io.WriteString(w, "12345")
		}
	},
	"/fields": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Set-Cookie"] = []string{"a=b", "c=d"}
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Server", "local")
		w.Header().Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
		_, _ = io.WriteString(w, "\x1f\x8bnot really")
	},
	"/trailers": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "43")
	},
	"/early": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "then")
	},
	"/unread": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(413) },
}

func untyped(w http.ResponseWriter) { w.Header()["Date"], w.Header()["Content-Type"] = nil, nil }

// given is what a client sees of an answer.
type given struct {
	Status          int
	Header, Trailer http.Header
	Length          int64
	Body            string
	Interim         []string
}

func mustGet(tb testing.TB, c *http.Client, r *http.Request) (g given) {
	tb.Helper()
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		g.Interim = append(g.Interim, fmt.Sprint(code, h["Link"]))
		return nil
	}}))
	res, body := mustDo(tb, c, r)
	g.Status, g.Header, g.Trailer, g.Length, g.Body = res.StatusCode, res.Header, res.Trailer, res.ContentLength, body
	if g.Header.Get("Date") != "Thu, 01 Jan 1970 00:00:00 GMT" {
		for i := range g.Header["Date"] {
			g.Header["Date"][i] = "now"
		}
	}
	return g
}

func TestAnswersComeAsTheyWereGiven(t *testing.T) {
	serve := func(w http.ResponseWriter, r *http.Request) { answers[r.URL.Path](w, r) }
	for _, pair := range pairs {
		t.Run(pair.name, func(t *testing.T) {
			addr := mustServe(t, pair.to, serve)
			direct, s := mustClient(t, pair.to, nil), mustStage(t, addr, pair.from, pair.to)
			through := s.client()
			for path := range answers {
				for _, method := range []string{"GET", "HEAD", "POST"} {
					if path == "/trailers" && method == "HEAD" {
						continue // that there would be some, only HTTP/1 says in a Trailer field
					}
					want := mustGet(t, direct, mustRequest(t, method, "http://"+addr+path, nil))
					got := mustGet(t, through, mustRequest(t, method, "http://"+addr+path, nil))
					if got.Length < 0 || want.Length < 0 {
						got.Length, want.Length = 0, 0 // HTTP/2 need not know
					}
					if got.Length == want.Length {
						delete(got.Header, "Content-Length")
						delete(want.Header, "Content-Length")
					}
					if !reflect.DeepEqual(got, want) {
						t.Errorf("%s %s:\n%+v, want\n%+v", method, path, got, want)
					}
				}
			}
		})
	}
}

func TestABodyWaitsFor100(t *testing.T) {
	for _, pair := range pairs {
		t.Run(pair.name, func(t *testing.T) {
			addr := mustServe(t, pair.to, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/no" {
					w.WriteHeader(417)
					return
				}
				report(w, r)
			})
			s := mustStage(t, addr, pair.from, pair.to)
			for path, want := range map[string]int{"/yes": 200, "/no": 417} {
				body := &notes{Reader: strings.NewReader("hello")}
				r := mustRequest(t, "POST", "http://local"+path, body)
				r.Header.Set("Expect", "100-continue")
				res, text := mustDo(t, s.client(), r)
				if res.StatusCode != want || body.read != (want == 200 || pair.from == HTTP2) || want == 200 && !strings.Contains(text, `"Body":"hello"`) {
					t.Errorf("%s: %d %q, body read: %v", path, res.StatusCode, text, body.read)
				}
			}
		})
	}
}

// notes notes whether it was read.
type notes struct {
	io.Reader
	read bool
}

func (n *notes) Read(b []byte) (int, error) {
	n.read = true
	return n.Reader.Read(b)
}

func TestBodiesOfAnySizeStreamBothWays(t *testing.T) {
	const size = 24 << 20
	for _, pair := range pairs {
		t.Run(pair.name, func(t *testing.T) {
			s := mustStage(t, mustServe(t, pair.to, func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).EnableFullDuplex()
				_, _ = io.Copy(w, r.Body)
			}), pair.from, pair.to)
			sum := sha256.New()
			r := mustRequest(t, "POST", "http://local/", io.TeeReader(io.LimitReader(rand.Reader, size), sum))
			res, err := s.client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			back := sha256.New()
			if n, err := io.Copy(back, res.Body); n != size || err != nil {
				t.Fatal(n, err)
			}
			if !bytes.Equal(sum.Sum(nil), back.Sum(nil)) {
				t.Error("the bytes have changed")
			}
		})
	}
}

// A conversation: each word waits for the one before.
func TestWordsGoAlongAtOnce(t *testing.T) {
	for _, pair := range pairs {
		t.Run(pair.name, func(t *testing.T) {
			s := mustStage(t, mustServe(t, pair.to, func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).EnableFullDuplex()
				_ = http.NewResponseController(w).Flush()
				b := make([]byte, 1)
				for {
					if _, err := io.ReadFull(r.Body, b); err != nil {
						return
					}
					_, _ = w.Write(bytes.ToUpper(b))
					_ = http.NewResponseController(w).Flush()
				}
			}), pair.from, pair.to)
			say, words := io.Pipe()
			res, err := s.client().Do(mustRequest(t, "POST", "http://local/", say))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			for _, word := range "magpie" {
				if _, err := io.WriteString(words, string(word)); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 1)
				if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != strings.ToUpper(string(word)) {
					t.Fatalf("%q, %v", b, err)
				}
			}
			_ = words.Close()
			if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
				t.Errorf("%q, %v", rest, err)
			}
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, pair := range pairs {
		answer := bytes.Repeat([]byte("x"), 1024)
		addr := mustServe(b, pair.to, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })
		for name, client := range map[string]*http.Client{pair.name: mustStage(b, addr, pair.from, pair.to).client(), pair.to.String() + ", direct": mustClient(b, pair.to, nil)} {
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					_, _ = mustDo(b, client, mustRequest(b, "GET", "http://"+addr+"/", nil))
				}
			})
		}
	}
}

func TestTheSameProtocolIsNotTouched(t *testing.T) {
	want := new(stream)
	got, err := Adapt(t.Context(), func(context.Context) (Stream, error) { return want, nil }, HTTP2, HTTP2)
	if err != nil || got != Stream(want) {
		t.Error(got, err)
	}
	for _, bad := range [][2]Protocol{{HTTP1, 3}, {0, 3}, {3, HTTP2}, {0, HTTP1}} {
		if _, err := Adapt(t.Context(), func(context.Context) (Stream, error) { return nil, errors.New("opened") }, bad[0], bad[1]); err == nil || !strings.Contains(err.Error(), "no such pair") {
			t.Error(bad, err)
		}
	}
}

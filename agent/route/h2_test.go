package route

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/agent/route/h2"
	"github.com/magpie-k8s/magpie/filters"
)

// mustHTTP2 serves handler with net/http, which speaks both HTTP/1 and, to who begins with its preface, HTTP/2.
func mustHTTP2(tb testing.TB, handler http.HandlerFunc) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := &http.Server{Handler: handler, Protocols: &http.Protocols{}}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	tb.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// naming answers with the server's name, the path, a header of the request, and its body.
func naming(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "x-sum")
		w.Header().Set("x-name", name)
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s ", name, r.Method, r.URL.Path, r.Header.Get("x-user"))
		_, _ = w.Write(body)
		w.Header().Set("x-sum", fmt.Sprint(len(body)))
	}
}

// mustClient returns a client that has one connection to addr.
func mustClient(tb testing.TB, addr string) *http.Client {
	tb.Helper()
	transport := &http.Transport{Protocols: &http.Protocols{}, MaxConnsPerHost: 1, DisableCompression: true}
	transport.Protocols.SetUnencryptedHTTP2(true)
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func mustAsk(tb testing.TB, client *http.Client, method, path, user, body string) string {
	tb.Helper()
	r, err := http.NewRequest(method, "http://shop"+path, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	if user != "" {
		r.Header.Set("X-User", user)
	}
	response, err := client.Do(r)
	if err != nil {
		tb.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatalf("%s %s: read: %v", method, path, err)
	}
	if response.ProtoMajor != 2 {
		tb.Errorf("%s %s: HTTP/%d", method, path, response.ProtoMajor)
	}
	return string(got)
}

func TestFramesPassAndAreStolenStreamByStream(t *testing.T) {
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	s.claim("me", mine, mustHTTP2(t, naming("local")))
	client := mustClient(t, s.addr)
	big := strings.Repeat("0123456789", 300_000)
	for i := range 20 {
		user, name := "", "original"
		if i%2 == 1 {
			user, name = "me", "local"
		}
		path := fmt.Sprintf("/%d", i)
		for _, body := range []string{"", "short", big} {
			want := fmt.Sprintf("%s POST %s %s %s", name, path, user, body)
			if got := mustAsk(t, client, "POST", path, user, body); got != want {
				t.Fatalf("got %.80q (%d bytes), want %.80q (%d bytes)", got, len(got), want, len(want))
			}
		}
	}
	if n := s.proxy.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestFramesOfManyAtOnce(t *testing.T) {
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	s.claim("me", mine, mustHTTP2(t, naming("local")))
	client := mustClient(t, s.addr)
	var asking sync.WaitGroup
	for i := range 200 {
		asking.Go(func() {
			user, name := "", "original"
			if i%2 == 1 {
				user, name = "me", "local"
			}
			body := strings.Repeat("x", i*997)
			path := fmt.Sprintf("/%d", i)
			want := fmt.Sprintf("%s POST %s %s %s", name, path, user, body)
			if got := mustAsk(t, client, "POST", path, user, body); got != want {
				t.Errorf("got %.80q (%d bytes), want %.80q (%d bytes)", got, len(got), want, len(want))
			}
		})
	}
	asking.Wait()
}

func TestFramesPassByteForByte(t *testing.T) {
	said := h2.Preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x08\x06\x00\x00\x00\x00\x00abcdefgh" + "\x00\x00\x03\xcc\x42\x00\x00\x00\x07odd"
	answer := "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x00\x04\x01\x00\x00\x00\x00" + "\x00\x00\x03\xcc\x42\x00\x00\x00\x07odd"
	for name, server := range map[string]func(context.Context, net.Conn){
		"client first": func(_ context.Context, conn net.Conn) {
			if expect(t, conn, said) {
				_, _ = io.WriteString(conn, answer)
			}
			rest, _ := io.ReadAll(conn)
			if string(rest) != "\x00\x00half" {
				t.Errorf("left over: %q", rest)
			}
		},
		"server first": func(_ context.Context, conn net.Conn) {
			_, _ = io.WriteString(conn, answer[:9])
			if expect(t, conn, said) {
				_, _ = io.WriteString(conn, answer[9:])
			}
			rest, _ := io.ReadAll(conn)
			if string(rest) != "\x00\x00half" {
				t.Errorf("left over: %q", rest)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustStageClaimed(t, mustListen(t, server))
			conn := mustDial(t, s.addr)
			first := 0
			if name == "server first" {
				first = 9
				expect(t, conn, answer[:9])
			}
			for i := range len(said) { // byte by byte
				if _, err := io.WriteString(conn, said[i:i+1]); err != nil {
					t.Fatal(err)
				}
			}
			expect(t, conn, answer[first:])
			_, _ = io.WriteString(conn, "\x00\x00half")
			_ = conn.CloseWrite()
			expectEnd(t, conn)
		})
	}
}

func TestServerThatSpeaksLikeOneOfFramesToAnotherClientIsHeard(t *testing.T) {
	greeting := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	s := mustStageClaimed(t, mustListen(t, func(_ context.Context, conn net.Conn) {
		_, _ = io.WriteString(conn, greeting)
		if expect(t, conn, "PRI or not") {
			_, _ = io.WriteString(conn, "\x01\x02\x03")
		}
		if expect(t, conn, getMine) {
			_, _ = io.WriteString(conn, "bye")
		}
	}))
	conn := mustDial(t, s.addr)
	expect(t, conn, greeting)
	play(t, conn, step{"PRI or not", "\x01\x02\x03"}, step{getMine, "bye"})
	_ = conn.CloseWrite()
	expectEnd(t, conn)
}

func TestLocalProcessThatRefusesLosesFramesToTheOriginal(t *testing.T) {
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	s.claim("me", mine, "127.0.0.1:1")
	client := mustClient(t, s.addr)
	for i := range 5 {
		body := strings.Repeat("b", i*10_000)
		if got, want := mustAsk(t, client, "POST", "/", "me", body), "original POST / me "+body; got != want {
			t.Fatalf("got %.80q, want %.80q", got, want)
		}
		if got, want := mustAsk(t, client, "GET", "/", "", ""), "original GET /  "; got != want {
			t.Fatalf("got %.80q, want %.80q", got, want)
		}
	}
}

func TestSessionThatCannotAnswerFramesIsNamed(t *testing.T) {
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	s.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) {
		_, _ = io.ReadAtLeast(conn, make([]byte, 1<<10), len(h2.Preface)+100)
	}))
	client := mustClient(t, s.addr)
	r, _ := http.NewRequest("POST", "http://shop/", bytes.NewReader(make([]byte, 1000)))
	r.Header.Set("X-User", "me")
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusBadGateway || !strings.Contains(string(body), "Magpie: session me did not answer") {
		t.Fatalf("got %d %q", response.StatusCode, body)
	}
	if got, want := mustAsk(t, client, "GET", "/", "", ""), "original GET /  "; got != want {
		t.Fatalf("got %.80q, want %.80q", got, want)
	}
}

func TestObserversSeeFrames(t *testing.T) {
	seen := make(chan Exchange, 8)
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	s.port.Add(&Claim{Session: "me", Filter: mustFilter(t, mine), Open: dialLocal(mustHTTP2(t, naming("me"))),
		Observe: func(e Exchange) { seen <- e }})
	s.port.Add(&Claim{Session: "lost", Filter: mustFilter(t, "X-User: lost"), Open: dialLocal("127.0.0.1:1")})
	client := mustClient(t, s.addr)
	mustAsk(t, client, "GET", "/1?q", "", "")
	mustAsk(t, client, "POST", "/2", "me", "x")
	mustAsk(t, client, "POST", "/3", "lost", "x")
	want := map[string]Exchange{
		"/1?q": {Method: "GET", Path: "/1?q", Status: 200},
		"/2":   {Session: "me", Method: "POST", Path: "/2", Status: 200},
		"/3":   {Lost: "lost", Method: "POST", Path: "/3", Status: 200},
	}
	for range len(want) {
		select {
		case got := <-seen:
			if got.Duration <= 0 || !got.Client.IsValid() {
				t.Errorf("%+v: no duration or client", got)
			}
			want := want[got.Path]
			got.Duration, got.Client = 0, want.Client
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		case <-time.After(patience):
			t.Fatal("no exchange")
		}
	}
}

func TestLargeHeadOfFramesIsStolen(t *testing.T) {
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	s.claim("me", mine, mustHTTP2(t, naming("local")))
	client := mustClient(t, s.addr)
	for _, user := range []string{"", "me", "", "me"} {
		r, _ := http.NewRequest("GET", "http://shop/", nil)
		r.Header.Set("X-Large", strings.Repeat("large ", 8000))
		if user != "" {
			r.Header.Set("X-User", user)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if want := map[string]string{"": "original", "me": "local"}[user]; err != nil || !strings.HasPrefix(string(body), want) {
			t.Fatalf("got %.80q, %v, want %s", body, err, want)
		}
	}
}

func TestEmptyStreamsOfFramesEnd(t *testing.T) {
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	s.claim("me", mine, mustHTTP2(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	client := mustClient(t, s.addr)
	for range 20 {
		near, far := io.Pipe()
		r, _ := http.NewRequest("POST", "http://shop/", near)
		r.Header.Set("X-User", "me")
		time.AfterFunc(time.Millisecond, func() { _ = far.Close() })
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
}

func TestFramesWithoutAnOriginalAreServedBySessionsAlone(t *testing.T) {
	s := mustStage(t, "", 0)
	s.claim("me", mine, mustHTTP2(t, naming("local")))
	client := mustClient(t, s.addr)
	for _, body := range []string{"", "some", strings.Repeat("much", 1_000_000)} {
		if got, want := mustAsk(t, client, "POST", "/", "me", body), "local POST / me "+body; got != want {
			t.Fatalf("got %.80q, want %.80q", got, want)
		}
	}
	r, _ := http.NewRequest("GET", "http://shop/", nil)
	if _, err := client.Do(r); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

// mustBodyStage claims what has a body with `"user": "me"` for a local process.
func mustBodyStage(t *testing.T, original http.HandlerFunc) *stage {
	t.Helper()
	s := mustStage(t, mustHTTP2(t, original), 0)
	filter, err := filters.Body(`$.user: me`)
	if err != nil {
		t.Fatal(err)
	}
	s.port.Add(&Claim{Session: "me", Filter: filter, Open: dialLocal(mustHTTP2(t, naming("local")))})
	return s
}

func TestFramesAreHeldForAFilterThatSeesTheirBodies(t *testing.T) {
	client := mustClient(t, mustBodyStage(t, naming("original")).addr)
	yours, mine := `{"user": "you"}`, `{"user": "me"}`
	large := `{"user": "me", "rest": "` + strings.Repeat("x", 70_000) + `"}`
	for range 3 {
		for body, name := range map[string]string{"": "original", yours: "original", mine: "local", large: "original", "user: me": "original"} {
			if got, want := mustAsk(t, client, "POST", "/", "", body), name+" POST /  "+body; got != want {
				t.Fatalf("got %.80q (%d bytes), want %.80q (%d bytes)", got, len(got), want, len(want))
			}
		}
	}
}

func TestFramesAreNotHeldForLongNorAreOthers(t *testing.T) {
	came := make(chan struct{})
	client := mustClient(t, mustBodyStage(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(came)
		}
		naming("original")(w, r)
	}).addr)
	body, rest := io.Pipe()
	answer := make(chan string, 1)
	go func() {
		r, _ := http.NewRequest("POST", "http://shop/slow", body)
		response, err := client.Do(r)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		got, _ := io.ReadAll(response.Body)
		answer <- string(got)
	}()
	_, _ = io.WriteString(rest, `{"user":`)
	for range 3 { // with a higher number, and before it
		if got, want := mustAsk(t, client, "GET", "/", "", ""), "original GET /  "; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	<-came // without the rest
	_, _ = io.WriteString(rest, ` "me"}`)
	_ = rest.Close()
	if got, want := <-answer, `original POST /slow  {"user": "me"}`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFramesBesideAnUnfilteredClaimPassToIt(t *testing.T) {
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	s.claim("whole", "", mustHTTP2(t, naming("whole")))
	s.claim("me", mine, mustHTTP2(t, naming("local")))
	client := mustClient(t, s.addr)
	for user, name := range map[string]string{"": "whole", "me": "local", "you": "whole"} {
		if got, want := mustAsk(t, client, "POST", "/", user, "x"), name+" POST / "+user+" x"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Whatever a client asks at the same time, each request is answered once, by the right one, and whole.
func FuzzFramesAreAnsweredByTheRightOne(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	original, local := mustHTTP2(f, naming("original")), mustHTTP2(f, naming("local"))
	filter, err := filters.Body(`$.user: me`)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		s := mustStage(t, original, 0)
		s.claim("me", mine, local)
		s.port.Add(&Claim{Session: "body", Filter: filter, Open: dialLocal(local)})
		s.claim("gone", "X-User: gone", "127.0.0.1:1")
		client := mustClient(t, s.addr)
		random := rand.New(rand.NewPCG(seed, seed))
		users := []string{"", "me", "you", "gone"}
		var asking sync.WaitGroup
		for i := range 1 + random.IntN(60) {
			user, body := users[random.IntN(len(users))], strings.Repeat("x", random.IntN(1<<random.IntN(20)))
			name, path := "original", fmt.Sprintf("/%d", i)
			if user == "me" {
				name = "local"
			}
			if random.IntN(4) == 0 {
				body, name = `{"user": "me"}`, "local"
			} else if user == "gone" {
				body = body[:min(len(body), 1<<15)]
			}
			asking.Go(func() {
				want := fmt.Sprintf("%s POST %s %s %s", name, path, user, body)
				if got := mustAsk(t, client, "POST", path, user, body); got != want {
					t.Errorf("got %.80q (%d bytes), want %.80q (%d bytes)", got, len(got), want, len(want))
				}
			})
		}
		asking.Wait()
	})
}

func TestFramesInTLSPassAndAreStolen(t *testing.T) {
	original := httptest.NewUnstartedServer(naming("original"))
	original.EnableHTTP2 = true
	original.StartTLS()
	t.Cleanup(original.Close)
	config := original.TLS.Clone()
	config.NextProtos = []string{"h2"}
	s := mustStage(t, "", 0)
	s.claim("me", mine, mustHTTP2(t, naming("local")))
	addr := mustListen(t, func(ctx context.Context, conn net.Conn) {
		client := tls.Server(conn, config)
		if err := client.HandshakeContext(ctx); err != nil {
			t.Error(err)
			return
		}
		s.proxy.ServeWith(ctx, client, s.port, func(ctx context.Context) (net.Conn, error) {
			d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}
			return d.DialContext(ctx, "tcp", original.Listener.Addr().String())
		})
	})
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxConnsPerHost: 1}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: patience}
	body := strings.Repeat("x", 300_000)
	for range 3 {
		for user, name := range map[string]string{"": "original", "me": "local"} {
			r, _ := http.NewRequest("POST", "https://"+addr+"/", strings.NewReader(body))
			r.Header.Set("X-User", user)
			response, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if want := name + " POST / " + user + " " + body; string(got) != want || response.ProtoMajor != 2 {
				t.Fatalf("got %.80q in HTTP/%d", got, response.ProtoMajor)
			}
		}
	}
}

package route

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestAnyMixOfRequestsIsAnsweredByWhomItIsFor throws pipelined requests of all shapes, torn at any byte, at a port whose sessions
// close their streams as they like. Every answer must come in order, whole, and from whom the request belongs to.
func TestAnyMixOfRequestsIsAnsweredByWhomItIsFor(t *testing.T) {
	conns, requests := 40, 60
	if testing.Short() {
		conns = 10
	}
	s := mustStage(t, mustHTTP(t, moody("original", false)), 0)
	s.claim("me", "X-User: me", mustHTTP(t, moody("me", true)))
	s.claim("you", "X-User: you", mustHTTP(t, moody("you", true)))
	var asking sync.WaitGroup
	for seed := range conns {
		conn := mustDial(t, s.addr)
		asking.Go(func() { askMany(t, conn, rand.New(rand.NewPCG(uint64(seed), 7)), requests) })
	}
	asking.Wait()
}

// moody answers with its name and what it was asked, in one framing or another. It may end the connection without saying so,
// once the answer is out: never with more requests on their way, since a session gets them one by one.
func moody(name string, closes bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if strings.Contains(r.URL.Path, "hint") {
			w.WriteHeader(http.StatusEarlyHints)
		}
		answer := fmt.Sprintf("%s %s %d", name, r.URL.Path, len(body))
		switch {
		case strings.Contains(r.URL.Path, "empty"):
			w.WriteHeader(http.StatusNoContent)
		case strings.Contains(r.URL.Path, "chunk"):
			_, _ = io.WriteString(w, answer[:1])
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, answer[1:])
		case strings.Contains(r.URL.Path, "bye") && closes:
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			fmt.Fprintf(rw, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
			_ = rw.Flush()
			_ = conn.Close()
		default:
			_, _ = io.WriteString(w, answer)
		}
	}
}

// askMany sends n random requests without waiting for answers, and checks those.
func askMany(t *testing.T, conn net.Conn, random *rand.Rand, n int) {
	var say strings.Builder
	var want []func(*bufio.Reader) error
	for i := range n {
		owner := []string{"", "me", "you"}[random.IntN(3)]
		kind := []string{"plain", "chunk", "hint", "empty", "bye"}[random.IntN(5)]
		method := []string{"GET", "PUT", "HEAD"}[random.IntN(3)]
		if kind == "bye" {
			method = "GET" // what a closing stream may swallow must be safe to ask again
		}
		path, size := fmt.Sprintf("/%s/%d", kind, i), random.IntN(3)*random.IntN(9000)
		say.WriteString(shaped(method, path, owner, size, random.IntN(2) == 0))
		if owner == "" {
			owner = "original"
		}
		want = append(want, func(r *bufio.Reader) error {
			return sameAnswer(r, method, kind, fmt.Sprintf("%s %s %d", owner, path, size))
		})
	}
	var saying sync.WaitGroup
	saying.Go(func() {
		for rest := say.String(); rest != ""; {
			k := min(len(rest), 1+random.IntN(3000))
			if _, err := io.WriteString(conn, rest[:k]); err != nil {
				return
			}
			rest = rest[k:]
		}
	})
	r := bufio.NewReader(conn)
	for i, want := range want {
		if err := want(r); err != nil {
			t.Errorf("answer %d: %v", i, err)
			_ = conn.Close()
			break
		}
	}
	saying.Wait()
}

func shaped(method, path, owner string, size int, chunked bool) string {
	head := method + " " + path + " HTTP/1.1\r\nHost: shop\r\nX-User: " + owner + "\r\n"
	body := strings.Repeat("x", size)
	switch {
	case size == 0:
		return head + "\r\n"
	case chunked && size > 1:
		k := size / 2
		return head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x;a\r\n%s\r\n%X\r\n%s\r\n0\r\nT: x\r\n\r\n", size-k, body[k:], k, body[:k])
	}
	return head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size, body)
}

func sameAnswer(r *bufio.Reader, method, kind, want string) error {
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	for err == nil && resp.StatusCode < 200 {
		resp, err = http.ReadResponse(r, &http.Request{Method: method})
	}
	if err != nil {
		return err
	}
	got, err := io.ReadAll(resp.Body)
	if method == "HEAD" || kind == "empty" {
		want = ""
	}
	if err != nil || string(got) != want {
		return fmt.Errorf("%d %q, %v, want %q", resp.StatusCode, got, err, want)
	}
	return nil
}

// Malformed bytes on a claimed port crash nobody, and their answers or ends come.
func TestNoiseEndsNothingButItsConnection(t *testing.T) {
	s := mustStage(t, mustHTTP(t, answering("original")), 0)
	s.claim("me", mine, mustHTTP(t, answering("me")))
	var asking sync.WaitGroup
	for seed := range 200 {
		conn := mustDial(t, s.addr)
		asking.Go(func() {
			random := rand.New(rand.NewPCG(uint64(seed), 8))
			say := []byte(strings.Repeat(getMine+request("POST", "/", "me", "body")+shaped("PUT", "/", "", 10, true), 3))
			for range 1 + random.IntN(4) {
				say[random.IntN(len(say))] = byte(random.Uint32())
			}
			_, _ = conn.Write(say)
			_ = conn.CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
		})
	}
	asking.Wait()
	conn := mustDial(t, s.addr)
	_, _ = io.WriteString(conn, get)
	readBody(t, bufio.NewReader(conn), "GET")
}

package session

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// serve is the body of the small servers. It returns when one of its addresses does not work any more.
func serve(what, name, addrs string) error {
	failed := make(chan error)
	for addr := range strings.SplitSeq(addrs, ",") {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go func() {
			if what == "echo" {
				failed <- echo(name, l)
				return
			}
			if what == "https" {
				failed <- serverOf(what, name).ServeTLS(l, os.Getenv(certificate), os.Getenv(privateKey))
				return
			}
			failed <- serverOf(what, name).Serve(l)
		}()
	}
	return <-failed
}

// What https shows to clients, as files.
const (
	certificate = "MAGPIE_TEST_CERTIFICATE"
	privateKey  = "MAGPIE_TEST_KEY"
)

// serverOf is http, which speaks HTTP/1.1 and HTTP/2, or one that speaks only one of them: h1 or h2c; or https, which speaks both in TLS.
func serverOf(what, name string) *http.Server {
	server := &http.Server{Handler: shop(name), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(what != "h2c")
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(what != "h1")
	return server
}

// shop is what http does: it answers with its name, the client that it saw, and the request; /download?n=BYTES with as
// many bytes, and a request to upgrade with an echo.
type shop string

func (s shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Answered-By", string(s))
	w.Header().Set("X-Client", r.RemoteAddr)
	w.Header().Set("X-Spoken", r.Proto)
	if r.TLS != nil {
		w.Header().Set("X-Server-Name", r.TLS.ServerName)
	}
	if r.Header.Get("Upgrade") != "" {
		s.upgrade(w)
		return
	}
	if size, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64); err == nil && r.Method == http.MethodGet {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		_, _ = io.CopyN(w, zeros{}, size)
		return
	}
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%s %s %s %d bytes\n", s, r.Method, r.URL, n)
}

// upgrade accepts any protocol and echoes what comes, as the other server below does.
func (s shop) upgrade(w http.ResponseWriter) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Answered-By: %s\r\n\r\n", s)
	if rw.Flush() == nil {
		_, _ = io.Copy(c, rw)
	}
}

// echo speaks first.
func echo(name string, l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			fmt.Fprintf(c, "%s speaks first\n", name)
			_, _ = io.Copy(c, c)
		}()
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

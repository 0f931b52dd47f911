package interop

import (
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
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
			if strings.HasPrefix(what, "grpc") {
				failed <- serveGRPC(what, name, l)
			} else {
				failed <- serveHTTP(name, l)
			}
		}()
	}
	return <-failed
}

// serveHTTP is net/http with HTTP/1 and HTTP/2 in clear text.
func serveHTTP(name string, l net.Listener) error {
	speaks := &http.Protocols{}
	speaks.SetHTTP1(true)
	speaks.SetUnencryptedHTTP2(true)
	quiet := log.New(io.Discard, "", 0) // h2spec gives it much to say
	return (&http.Server{Handler: shop(name), Protocols: speaks, ErrorLog: quiet}).Serve(l)
}

// shop answers with its name and what it saw of the request. Some paths do more.
type shop string

func (s shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Answered-By", string(s))
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	w.Header().Set("X-Client", host)
	switch {
	case strings.HasPrefix(r.URL.Path, "/download"):
		download(w, r)
	case strings.HasPrefix(r.URL.Path, "/echo"), r.Method == http.MethodConnect:
		echo(w, r)
	case strings.HasPrefix(r.URL.Path, "/early"):
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		s.tell(w, r)
	case strings.HasPrefix(r.URL.Path, "/status"):
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		w.WriteHeader(code)
	default:
		s.tell(w, r)
	}
}

// tell writes the request down: line, headers, length of the body, trailers. The answer has a trailer too.
func (s shop) tell(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	n, err := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%s %s %s %s, %d bytes, %v\n", s, r.Method, r.URL, r.Proto, n, err)
	for _, fields := range []http.Header{r.Header, r.Trailer} {
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			fmt.Fprintf(w, "%s: %.100q, %d bytes\n", name, fields[name], len(strings.Join(fields[name], "")))
		}
	}
	w.Header().Set("X-Sum", strconv.FormatInt(n, 10))
}

func download(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = io.CopyN(w, &pages{}, size)
}

// echo sends back what comes, as it comes. A CONNECT for a protocol, as of a WebSocket over HTTP/2, is one too.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Protocol", r.Header.Get(":protocol"))
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	buf := make([]byte, 1<<14)
	for err := flush.Flush(); err == nil; {
		var n int
		n, err = r.Body.Read(buf)
		if n > 0 {
			_, _ = w.Write(buf[:n])
			_ = flush.Flush()
		}
	}
}

// ignoreEOF is for those for whom the end of what comes is no error.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// pages never end; no two of their lines are the same.
type pages struct {
	line int
	rest []byte
}

func (p *pages) Read(b []byte) (n int, err error) {
	for n < len(b) {
		if len(p.rest) == 0 {
			p.rest = fmt.Appendf(p.rest, "line %d of what is downloaded\n", p.line)
			p.line++
		}
		copied := copy(b[n:], p.rest)
		p.rest = p.rest[copied:]
		n += copied
	}
	return n, nil
}

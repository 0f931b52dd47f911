package interop

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
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

// ignoreEOF is for those for whom the end of what comes is no error.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// serveHTTP is net/http with HTTP/1 and HTTP/2 in clear text.
func serveHTTP(name string, l net.Listener) error {
	speaks := &http.Protocols{}
	speaks.SetHTTP1(true)
	speaks.SetUnencryptedHTTP2(true)
	quiet := log.New(io.Discard, "", 0) // h2spec gives it much to say
	return (&http.Server{Handler: shop(name), Protocols: speaks, ErrorLog: quiet}).Serve(l)
}

// shop answers with its name and the request; /download?n=BYTES with as many bytes.
type shop string

func (s shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Answered-By", string(s))
	w.Header().Set("X-Client", r.RemoteAddr)
	switch r.URL.Path {
	case "/download":
		s.download(w, r)
	default:
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %s %d bytes\n", s, r.Method, r.URL, n)
	}
}

func (s shop) download(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, _ = io.CopyN(w, zeros{}, size)
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

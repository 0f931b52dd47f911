package local

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"syscall"
)

func newProxy(a *adapter) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      a.transport,
		ModifyResponse: makeRoom,
		FlushInterval:  -1, // at once
		ErrorLog:       silent(),
		ErrorHandler:   a.unanswered,
	}
}

// rewrite undoes what ReverseProxy does to requests from strangers: this is the pod's own traffic, and shall come as it was sent.
func rewrite(r *httputil.ProxyRequest) {
	for name, values := range r.In.Header {
		if name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") {
			r.Out.Header[name] = values
		}
	}
	r.Out.Host = r.In.Host
	// One name for the local process, whatever it is called: connections are kept by name.
	r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.User = "http", "local", nil
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	if asked := r.In.RequestURI; strings.HasPrefix(asked, "/") && !strings.HasPrefix(asked, "//") {
		r.Out.URL = &url.URL{Scheme: "http", Host: "local", Opaque: asked}
	}
	if len(r.In.Trailer) > 0 {
		r.Out.Trailer = r.In.Trailer // filled when the body has been read
		r.Out.ContentLength = -1     // in HTTP/1 they follow chunks only
	}
}

// makeRoom lets trailers follow: in HTTP/1 there is none for them where the length is known.
func makeRoom(res *http.Response) error {
	if len(res.Trailer) > 0 && res.Request.Method != http.MethodHead {
		res.Header.Del("Content-Length")
	}
	return nil
}

// ServeHTTP answers one request.
func (a *adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.from == HTTP1 {
		_ = http.NewResponseController(w).EnableFullDuplex() // all that net/http makes can
		defer a.abort()
	}
	// What the local process does not say is not said: nil keeps net/http from filling it in.
	w.Header()["Date"], w.Header()["Content-Type"] = nil, nil
	switch upgrade := r.Header.Get("Upgrade"); {
	case r.Method == http.MethodConnect:
		refuse(w, r, fmt.Errorf("a CONNECT cannot go to a local process that speaks %v", a.to))
	case isGRPC(r) && a.to == HTTP1:
		refuseGRPC(w)
	case strings.EqualFold(upgrade, "websocket"):
		refuse(w, r, errors.New("a WebSocket cannot be opened to a local process that is spoken to in HTTP/2; say --local-protocol h1, or nothing"))
	default:
		if upgrade != "" {
			r.Header.Del("Upgrade") // a server may ignore it (RFC 9110 section 7.8)
			r.Header.Del("HTTP2-Settings")
		}
		a.proxy.ServeHTTP(w, r)
	}
}

// abort ends the stream when an answer broke off, so that the caller cannot take it for a proper end.
func (a *adapter) abort() {
	if v := recover(); v != nil {
		a.end.fail(syscall.ECONNRESET) // unless it has failed before, with a better reason
		panic(v)
	}
}

// unanswered is told of each request that the local process did not begin to answer.
func (a *adapter) unanswered(w http.ResponseWriter, r *http.Request, err error) {
	if foreign := a.babel(); foreign != nil { // err may only say that the connection is gone
		refuse(w, r, foreign)
		return
	}
	errno := a.why(err)
	switch {
	case r.Context().Err() != nil:
	case a.from == HTTP1:
		a.end.fail(errno)
	case !slices.Contains(neverWas, errno) && !safe(r.Method):
		refuse(w, r, errors.New("the local process ended the connection and did not answer; it may have acted on the request"))
		return
	}
	panic(http.ErrAbortHandler)
}

// safe reports whether a request of the method may be asked twice (RFC 9110 section 9.2.1).
func safe(method string) bool {
	return slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace}, method)
}

// refuse answers in Magpie's name.
func refuse(w http.ResponseWriter, r *http.Request, cause error) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.ProtoMajor == 1 {
		h.Set("Connection", "close") // the rest of the request is not worth reading
	}
	w.WriteHeader(http.StatusBadGateway)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, words(cause))
	}
}

// isGRPC reports whether a request is gRPC itself; gRPC-Web goes over HTTP/1 too.
func isGRPC(r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// refuseGRPC answers with trailers only, as gRPC has it (PROTOCOL-HTTP2.md): status 12 is UNIMPLEMENTED.
func refuseGRPC(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", "12")
	h.Set("Grpc-Message", "Magpie: gRPC cannot go to a local process that is spoken to in HTTP/1; say --local-protocol h2c, or nothing")
	w.WriteHeader(http.StatusOK)
}

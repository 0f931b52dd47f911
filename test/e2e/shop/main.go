// Command shop is what runs in the pods of the end-to-end tests, and on the developer's side of them: a small HTTP
// server that says who answered and whom it saw, and a bystander that sends steady traffic and counts what went wrong.
//
//	shop serve NAME :8080 [CERTIFICATE KEY]
//	                            GET / says who answered, and in which protocol; also /healthz, /env?name=, /bytes?n=, POST /sink.
//	                            HTTP/1.1 and HTTP/2, in TLS if a certificate is given
//	shop bystander URL :8081    sends requests to URL for ever; GET /stats says how they went since GET /reset,
//	                            GET /ask?url=&header=&http2= sends one, and trusts every certificate,
//	                            GET /keep?url= opens one connection and keeps it, GET /again asks over it, says who answered and counts
//	                            how often it had to be opened anew,
//	                            GET /load?url=&header=&body=&workers=&for=&most= as many as it can.
//	                            Without a URL it sends only what it is asked for
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// lameDuck is how long a server in a pod that was told to end still takes connections: what routes them to it needs a
// moment to hear of its end.
const lameDuck = 3 * time.Second

func main() {
	if len(os.Args) != 4 && len(os.Args) != 6 {
		log.Fatal("usage: shop serve NAME ADDRESS [CERTIFICATE KEY] | shop bystander URL ADDRESS")
	}
	var handler http.Handler
	switch os.Args[1] {
	case "serve":
		handler = shop(os.Args[2])
	case "bystander":
		b := newBystander(os.Args[2])
		if b.url != "" {
			go b.run()
		}
		handler = b.handler()
	default:
		log.Fatalf("unknown command %q", os.Args[1])
	}
	if err := serve(os.Args[3], handler, os.Args[4:]...); err != nil {
		log.Fatal(err)
	}
}

// serve ends as a good citizen: it goes on for a while after SIGTERM, and lets what it serves end. With a certificate and a key, as files, it serves TLS.
func serve(addr string, handler http.Handler, certificate ...string) error {
	term, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	server := &http.Server{Addr: addr, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if term.Err() != nil {
			w.Header().Set("Connection", "close") // or a request may meet the close of a connection that was idle
		}
		handler.ServeHTTP(w, r)
	})}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	over := make(chan error, 1)
	go func() {
		<-term.Done()
		if os.Getpid() == 1 {
			time.Sleep(lameDuck)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		over <- server.Shutdown(ctx)
	}()
	listen := server.ListenAndServe
	if len(certificate) == 2 {
		listen = func() error { return server.ListenAndServeTLS(certificate[0], certificate[1]) }
	}
	if err := listen(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-over
}

// answer is what a shop says of a request.
type answer struct {
	By, Host, Client, Path, Proto string
	Body                          int64 `json:",omitempty"`
}

func shop(name string) http.Handler {
	host, _ := os.Hostname()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_ = json.NewEncoder(w).Encode(answer{name, host, r.RemoteAddr, r.URL.Path, r.Proto, n})
	})
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getenv(r.FormValue("name"))) })
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.FormValue("n"), 10, 64)
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		_, _ = io.CopyN(w, zeros{}, n)
	})
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.FormValue("for"))
		time.Sleep(d)
		fmt.Fprint(w, name)
	})
	return mux
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// Command shop is what runs in the pods of the end-to-end tests, and on the developer's side of them: a small HTTP
// server that says who answered and whom it saw, and a bystander that sends steady traffic and counts what went wrong.
//
//	shop serve NAME :8080       GET / says who answered; also /healthz, /env?name=, /bytes?n=, POST /sink
//	shop bystander URL :8081    sends requests to URL for ever; GET /stats says how they went since GET /reset,
//	                            GET /ask?url=&header= sends one,
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
	if len(os.Args) != 4 {
		log.Fatal("usage: shop serve NAME ADDRESS | shop bystander URL ADDRESS")
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
	if err := serve(os.Args[3], handler); err != nil {
		log.Fatal(err)
	}
}

// serve ends as a good citizen: it goes on for a while after SIGTERM, and lets what it serves end.
func serve(addr string, handler http.Handler) error {
	term, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	server := &http.Server{Addr: addr, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if term.Err() != nil {
			w.Header().Set("Connection", "close") // or a request may meet the close of a connection that was idle
		}
		handler.ServeHTTP(w, r)
	})}
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
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-over
}

// answer is what a shop says of a request.
type answer struct {
	By, Host, Client, Path string
	Body                   int64 `json:",omitempty"`
}

func shop(name string) http.Handler {
	host, _ := os.Hostname()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_ = json.NewEncoder(w).Encode(answer{name, host, r.RemoteAddr, r.URL.Path, n})
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

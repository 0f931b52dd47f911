package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// Words that make this program a server, or a client of one.
const (
	serveCommand = "serve" // WHO ADDRESS
	askCommand   = "ask"   // URL LENGTH [HEADER]
)

// stallPath is where the server reads nothing of what it is sent.
const stallPath = "/stall"

func overH2() *http.Protocols {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	return p
}

// serveH2 answers with who it is.
func serveH2(who, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	said := []byte(h2Answer(who))
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(said) })
	mux.HandleFunc(stallPath, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush() // the client knows that we have it
		<-r.Context().Done()
	})
	return (&http.Server{Handler: mux, Protocols: overH2()}).Serve(l)
}

// runAsk prints what askH2 says.
func runAsk(out io.Writer, url, length, header string) error {
	d, err := time.ParseDuration(length)
	if err != nil {
		return err
	}
	rate, err := askH2(url, d, header)
	if err == nil {
		fmt.Fprintf(out, "%.0f\n", rate)
	}
	return err
}

// askers is how many ask at the same time, on one connection.
const askers = 32

// askH2 asks for as long as told on one connection, and returns the requests per second. With a header it first begins an
// upload for whom that means, which nobody reads.
func askH2(url string, length time.Duration, header string) (float64, error) {
	transport := &http.Transport{Protocols: overH2()}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if header != "" {
		if err := stall(ctx, transport, url, header); err != nil {
			return 0, err
		}
	}
	answers, errs := make([]int, askers), make([]error, askers)
	end := time.Now().Add(length)
	var running sync.WaitGroup
	for i := range askers {
		running.Go(func() {
			for errs[i] == nil && time.Now().Before(end) {
				errs[i] = askOnce(ctx, transport, url)
				answers[i]++
			}
		})
	}
	running.Wait()
	sum := 0
	for _, n := range answers {
		sum += n
	}
	return float64(sum) / length.Seconds(), errors.Join(errs...)
}

func askOnce(ctx context.Context, transport *http.Transport, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && string(said) != h2Answer("original") {
		err = fmt.Errorf("answered: %s", said)
	}
	return err
}

// stall begins an upload; what is sent of it goes on until no more is taken.
func stall(ctx context.Context, transport *http.Transport, url, header string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+stallPath, io.NopCloser(endless{}))
	if err != nil {
		return err
	}
	name, value, _ := strings.Cut(header, ": ")
	req.Header.Set(name, value)
	resp, err := transport.RoundTrip(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return err
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// measureStalled shows what a local process that reads nothing costs the passed requests on the same connection.
func (l *lab) measureStalled(ctx context.Context, out io.Writer, length time.Duration, rounds int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ways := []struct{ what, header string }{{"alone", ""}, {"beside a stolen upload that nobody reads", ours}}
	rates := make([][]float64, len(ways))
	for range rounds {
		for i, way := range ways {
			out, _, err := l.load(ctx, length+loadTimeout, self, askCommand, "http://"+original, length.String(), way.header)
			if err != nil {
				return err
			}
			rate, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	fmt.Fprintf(out, "\nPassed requests on one connection, %d at the same time, by a client of Go's, medians of %d times %v\n\n", askers, rounds, length)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for i, way := range ways {
		fmt.Fprintf(w, "%s\t%.0f req/s\t\n", way.what, mid(rates[i], func(r float64) float64 { return r }))
	}
	return w.Flush()
}

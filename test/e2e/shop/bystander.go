package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pace is the pause of each worker between two requests.
	pace = 20 * time.Millisecond

	// patience is what a user would call an error.
	patience = 3 * time.Second

	// keptErrors is how many errors are kept word by word.
	keptErrors = 20
)

// stats is how the requests went.
type stats struct {
	OK, Failed int
	By         map[string]int // answers, by who gave them
	Slowest    time.Duration
	Errors     []string
}

// bystander is a user who knows nothing of Magpie.
type bystander struct {
	url string

	kept atomic.Pointer[kept]

	mu    sync.Mutex
	since time.Time // requests that began before are not counted
	stats stats
}

func newBystander(url string) *bystander {
	return &bystander{url: url, stats: stats{By: map[string]int{}}}
}

// run sends requests over connections that are kept, and over new ones.
func (b *bystander) run() {
	for range 3 {
		go b.work(&http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}})
	}
	b.work(&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}})
}

func (b *bystander) work(client *http.Client) {
	for {
		begin := time.Now()
		by, err := visit(client, b.url)
		b.count(by, begin, err)
		time.Sleep(pace)
	}
}

func visit(client *http.Client, url string) (by string, err error) {
	// A POST is never sent twice by net/http behind our back, as a GET would be when a kept connection breaks.
	resp, err := client.Post(url, "text/plain", strings.NewReader("a small body"))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return "", fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK || a.Body != int64(len("a small body")) {
		return a.By, fmt.Errorf("status %d, body of %d bytes", resp.StatusCode, a.Body)
	}
	return a.By, err
}

func (b *bystander) count(by string, begin time.Time, err error) {
	took := time.Since(begin)
	b.mu.Lock()
	defer b.mu.Unlock()
	if begin.Before(b.since) {
		return
	}
	b.stats.Slowest = max(b.stats.Slowest, took)
	if err == nil {
		b.stats.OK++
		b.stats.By[by]++
		return
	}
	b.stats.Failed++
	if len(b.stats.Errors) < keptErrors {
		b.stats.Errors = append(b.stats.Errors, fmt.Sprintf("%s after %v: %v", time.Now().Format("15:04:05.000"), took, err))
	}
}

func (b *bystander) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/stats", func(w http.ResponseWriter, _ *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		_ = json.NewEncoder(w).Encode(b.stats)
	})
	mux.HandleFunc("/reset", func(http.ResponseWriter, *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.since, b.stats = time.Now(), stats{By: map[string]int{}}
	})
	mux.HandleFunc("/ask", ask)
	mux.HandleFunc("/keep", b.keep)
	mux.HandleFunc("/again", b.again)
	mux.HandleFunc("/load", serveLoad)
	return mux
}

// request is what the caller asks us to send, with the headers asked for.
func request(r *http.Request, url string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	for _, line := range r.Form["header"] {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	return req, nil
}

// ask sends one request over a connection of its own.
func ask(w http.ResponseWriter, r *http.Request) {
	req, err := request(r, r.FormValue("url"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	way := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: new(http.Protocols)}
	way.Protocols.SetHTTP1(r.FormValue("http2") == "")
	way.Protocols.SetHTTP2(r.FormValue("http2") != "")
	way.Protocols.SetUnencryptedHTTP2(r.FormValue("http2") != "")
	client := &http.Client{Timeout: patience, Transport: way}
	resp, err := client.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A load is as many requests as so many workers can send one after the other.
type load struct {
	url     string
	headers []string
	body    int64 // of zeros, in each request
	workers int
	length  time.Duration // after which no more requests begin
	most    int           // requests of each worker
}

// loadResult says how it went. Bytes are those of the answers' bodies.
type loadResult struct {
	Requests, Failed int
	Bytes            int64
	Took, P50, P99   time.Duration
	Error            string `json:",omitempty"` // one of them
}

// serveLoad runs the load that the query asks for.
func serveLoad(w http.ResponseWriter, r *http.Request) {
	l := load{url: r.FormValue("url"), headers: r.Form["header"]}
	var errs [4]error
	l.workers, errs[0] = strconv.Atoi(r.FormValue("workers"))
	l.length, errs[1] = time.ParseDuration(r.FormValue("for"))
	l.most, errs[2] = strconv.Atoi(r.FormValue("most"))
	l.body, errs[3] = strconv.ParseInt(r.FormValue("body"), 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(l.run(r.Context()))
}

func (l load) run(ctx context.Context) (sum loadResult) {
	var all sync.WaitGroup
	var mu sync.Mutex
	var times []time.Duration
	began := time.Now()
	for range l.workers {
		all.Go(func() {
			one, took := l.work(ctx, began.Add(l.length))
			mu.Lock()
			defer mu.Unlock()
			times = append(times, took...)
			sum.Failed += one.Failed
			sum.Bytes += one.Bytes
			sum.Error = max(sum.Error, one.Error)
		})
	}
	all.Wait()
	sum.Took, sum.Requests = time.Since(began), len(times)
	if slices.Sort(times); len(times) > 0 {
		sum.P50, sum.P99 = times[len(times)/2], times[len(times)*99/100]
	}
	return sum
}

// work has a connection of its own, which it keeps.
func (l load) work(ctx context.Context, end time.Time) (sum loadResult, took []time.Duration) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for began := time.Now(); began.Before(end) && len(took) < l.most && ctx.Err() == nil; began = time.Now() {
		n, err := l.request(ctx, client)
		took = append(took, time.Since(began))
		sum.Bytes += n
		if err != nil {
			sum.Failed++
			sum.Error = err.Error()
		}
	}
	return sum, took
}

func (l load) request(ctx context.Context, client *http.Client) (int64, error) {
	method, body := http.MethodGet, io.Reader(nil)
	if l.body > 0 {
		method, body = http.MethodPost, io.LimitReader(zeros{}, l.body)
	}
	req, err := http.NewRequestWithContext(ctx, method, l.url, body)
	if err != nil {
		return 0, err
	}
	req.ContentLength = l.body
	for _, line := range l.headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return n, err
}

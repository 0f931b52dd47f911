package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// kept is a client that keeps its one connection open, as a gRPC channel or a pool does.
type kept struct {
	url    string
	client *http.Client
	opened atomic.Int64
}

// story is who answered over a kept connection, and how often it was opened.
type story struct {
	By     string
	Opened int64
}

// keep opens a connection and asks over it once.
func (b *bystander) keep(w http.ResponseWriter, r *http.Request) {
	k := &kept{url: r.FormValue("url")}
	k.client = &http.Client{Timeout: patience, Transport: &http.Transport{
		MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			k.opened.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}}
	b.kept.Store(k)
	b.again(w, r)
}

// again asks over the connection that was kept, with the headers asked for.
func (b *bystander) again(w http.ResponseWriter, r *http.Request) {
	k := b.kept.Load()
	if k == nil {
		http.Error(w, "nothing is kept", http.StatusConflict)
		return
	}
	req, err := request(r, k.url)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	resp, err := k.client.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body) // or the connection is not used again
	_ = json.NewEncoder(w).Encode(story{a.By, k.opened.Load()})
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// A call is what the caller's pod sends to a server in the cluster: see test/e2e/shop. Each worker has one connection.
type call struct {
	url, header string
	body        int
	workers     int           // 0: one
	length      time.Duration // 0: as long as it takes
	most        int           // requests of each worker; 0: any number
}

// called is how it went.
type called struct {
	Requests, Failed int
	Bytes            int64
	Took, P50, P99   time.Duration
	Error            string
}

func (c called) perSecond() float64 { return float64(c.Requests) / c.Took.Seconds() }

// call returns an error unless all requests went well.
func (l *lab) call(ctx context.Context, c call) (r called, err error) {
	if c.length == 0 {
		c.length = startTimeout
	}
	if c.most == 0 {
		c.most = 1 << 30
	}
	query := url.Values{
		"url": {c.url}, "body": {strconv.Itoa(c.body)}, "workers": {strconv.Itoa(max(c.workers, 1))}, "for": {c.length.String()}, "most": {strconv.Itoa(c.most)},
	}
	if c.header != "" {
		query.Set("header", c.header)
	}
	said, err := l.kubectl(ctx, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/caller:8081/proxy/load?%s", l.namespace, query.Encode()))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(said), &r); err != nil {
		return r, fmt.Errorf("caller said %q: %w", said, err)
	}
	if r.Failed > 0 {
		return r, fmt.Errorf("%d of %d requests failed: %s", r.Failed, r.Requests, r.Error)
	}
	return r, nil
}

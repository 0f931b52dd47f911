package interop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// TestBodiesOfBothKindsComeBackWhole sends bodies of all sizes both ways at once, on one connection of Go's own client, some of
// which are given up halfway.
func TestBodiesOfBothKindsComeBackWhole(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.both(t, "http", "http")
	client, connections := s.goClient(t)
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	if err := comesBack(ctx, client, "http://"+s.at(claimed), local, []byte("the first, or it would dial for each")); err != nil {
		t.Fatal(err)
	}
	const requests, atOnce = 400, 50
	var running sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i := range requests {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			random := rand.New(rand.NewPCG(uint64(i), 0))
			who := []string{original, local}[i%2]
			var err error
			if i%7 == 0 {
				err = giveUp(ctx, client, "http://"+s.at(claimed), who)
			} else {
				err = comesBack(ctx, client, "http://"+s.at(claimed), who, randomBody(random))
			}
			if err != nil {
				t.Errorf("request %d for the %s: %v", i, who, err)
			}
		})
	}
	running.Wait()
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// goClient is net/http's client, with HTTP/2 only and one connection, in the client's namespace.
func (s *stage) goClient(tb testing.TB) (*http.Client, *atomic.Int32) {
	tb.Helper()
	var connections atomic.Int32
	speaks := &http.Protocols{}
	speaks.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: speaks, DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		connections.Add(1)
		return dial(s.net.Client, addr)
	}}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, &connections
}

// randomBody is small more often than large, up to a megabyte.
func randomBody(random *rand.Rand) []byte {
	body := make([]byte, random.IntN(1<<random.IntN(21)))
	for i := range body {
		body[i] = byte(random.Uint32())
	}
	return body
}

func newEcho(ctx context.Context, url, who string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/echo", body)
	if err == nil && who == local {
		req.Header.Set("X-User", "me")
	}
	return req, err
}

// comesBack sends a body and returns an error unless the same comes back, from who is meant.
func comesBack(ctx context.Context, client *http.Client, url, who string, body []byte) error {
	req, err := newEcho(ctx, url, who, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if by := resp.Header.Get("X-Answered-By"); err != nil || by != who || !bytes.Equal(got, body) {
		return fmt.Errorf("%d bytes came back of %d, from %q: %w", len(got), len(body), by, err)
	}
	return nil
}

// giveUp begins to send what has no end, and goes once something has come back.
func giveUp(ctx context.Context, client *http.Client, url, who string) error {
	req, err := newEcho(ctx, url, who, io.NopCloser(&pages{}))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<14); err != nil {
		return err
	}
	return resp.Body.Close()
}

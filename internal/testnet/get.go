package testnet

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// getTimeout bounds an answer to Get.
const getTimeout = 10 * time.Second

// Get sends a request from inside the namespace, over a connection of its own, and returns the answer's body. The header is
// as "Name: value", or "".
func (h *Host) Get(url, header string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, addr string) (c net.Conn, err error) {
		err = h.NS.Do(func() error { c, err = net.DialTimeout(network, addr, getTimeout); return err })
		return c, err
	}}
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if name, value, ok := strings.Cut(header, ": "); ok {
		req.Header.Set(name, value)
	}
	resp, err := (&http.Client{Transport: transport, Timeout: getTimeout}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

package agentpod

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	constants "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/transport/websocket"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
	streamspdy "k8s.io/streaming/pkg/httpstream/spdy"
)

// pingPeriod keeps load balancers from closing a pipe of a bond that happens to be idle.
const pingPeriod = 10 * time.Second

// A connection is one of a port-forward: SPDY, in a WebSocket where the API server can.
type connection struct {
	httpstream.Connection
	raw net.Conn // under it; nil where client-go keeps it
}

// Close does not wait for a path that is stuck.
func (c *connection) Close() error {
	if c.raw != nil {
		return c.raw.Close()
	}
	go c.Connection.Close()
	return nil
}

// upgrade asks the API server for a connection: by WebSocket first, as proxies understand it, else by SPDY alone, as kubectl does.
func upgrade(ctx context.Context, config *rest.Config, at *url.URL, old *atomic.Bool) (*connection, error) {
	if old.Load() {
		return bySPDY(ctx, config, at)
	}
	conn, err := byWebSocket(ctx, config, at)
	if err == nil || !notWebSocket(err) {
		return conn, err
	}
	conn, second := bySPDY(ctx, config, at)
	if second != nil {
		return nil, answer(err) // the one that has its status
	}
	old.Store(true)
	return conn, nil
}

// notWebSocket reports whether an error may be the fault of WebSockets. An answer about the pod is not; RBAC is asked for another verb
// by the two (get and create), so a refusal may be.
func notWebSocket(err error) bool {
	return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
}

// answer is what the API server said instead of an upgrade.
func answer(err error) error {
	if u := (*httpstream.UpgradeFailureError)(nil); errors.As(err, &u) {
		return u.Cause
	}
	return err
}

func byWebSocket(ctx context.Context, config *rest.Config, at *url.URL) (*connection, error) {
	transport, holder, err := websocket.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	socket, err := websocket.Negotiate(transport, holder, request, constants.WebsocketsSPDYTunnelingPortForwardV1)
	if err != nil {
		return nil, err
	}
	raw := portforward.NewTunnelingConnectionWithLogger(klog.Logger{}, socket)
	conn, err := streamspdy.NewClientConnectionWithPings(raw, pingPeriod)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return &connection{conn, raw}, nil
}

func bySPDY(ctx context.Context, config *rest.Config, at *url.URL) (*connection, error) {
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), nil)
	if err != nil {
		return nil, err
	}
	conn, protocol, err := spdy.NegotiateStreaming(upgrader, &http.Client{Transport: transport}, request, constants.PortForwardV1Name)
	if err != nil {
		return nil, err
	}
	if protocol != constants.PortForwardV1Name {
		conn.Close()
		return nil, fmt.Errorf("the API server speaks %q, not %q", protocol, constants.PortForwardV1Name)
	}
	return &connection{conn, nil}, nil
}

package agentpod

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	constants "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/websocket"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// maxRefusal bounds what is read of an answer that is no upgrade.
const maxRefusal = 64 << 10

// upgrade asks the API server for a connection that speaks SPDY: in a WebSocket first, as proxies understand it, else bare, as kubectl
// does. Old is set once an API server is known to have no WebSockets.
func upgrade(ctx context.Context, config *rest.Config, at *url.URL, old *atomic.Bool) (net.Conn, error) {
	if old.Load() {
		return bare(ctx, config, at)
	}
	conn, err := byWebSocket(ctx, config, at)
	if err == nil || !notWebSocket(err) {
		return conn, err
	}
	conn, second := bare(ctx, config, at)
	if second != nil {
		return nil, answer(err) // both were answered alike, most likely
	}
	old.Store(true)
	return conn, nil
}

// notWebSocket reports whether an error may be the fault of WebSockets. That of RBAC may be, too: it is asked for the verb get for a
// WebSocket, and else for create.
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

func byWebSocket(ctx context.Context, config *rest.Config, at *url.URL) (net.Conn, error) {
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
	return portforward.NewTunnelingConnectionWithLogger(klog.Logger{}, socket), nil
}

func bare(ctx context.Context, config *rest.Config, at *url.URL) (net.Conn, error) {
	b, err := newBareTransport(config)
	if err != nil {
		return nil, err
	}
	transport, err := rest.HTTPWrappersForConfig(config, b) // credentials
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	request.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	request.Header.Set(httpstream.HeaderProtocolVersion, constants.PortForwardV1Name)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		defer b.conn.Close()
		said, _ := io.ReadAll(io.LimitReader(response.Body, maxRefusal))
		return nil, refused(response, said)
	}
	return b.conn, nil
}

// A bareTransport is for one request, and keeps its connection. Client-go's own keeps it from us.
type bareTransport struct {
	dial *spdy.SpdyRoundTripper // knows proxies
	conn net.Conn
}

func newBareTransport(config *rest.Config) (*bareTransport, error) {
	tls, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	dial, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{TLS: tls, Proxier: config.Proxy})
	return &bareTransport{dial: dial}, err
}

// RoundTrip sends the request and reads the head of the answer.
func (b *bareTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	conn, err := b.dial.Dial(request)
	if err != nil {
		return nil, err
	}
	b.conn = conn
	defer context.AfterFunc(request.Context(), func() { conn.Close() })()
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		conn.Close()
	}
	return response, err
}

// refused is the API server's refusal, as its clients know it.
func refused(response *http.Response, said []byte) error {
	var status metav1.Status
	if err := json.Unmarshal(said, &status); err == nil && status.Message != "" {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return fmt.Errorf("%s: %s", response.Status, line(string(said)))
}

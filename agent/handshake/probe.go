package handshake

import (
	"context"
	"crypto/tls"
	"time"
)

// probing bounds a Probe: a claim waits for it.
const probing = time.Second

// Probe reports whether the original speaks TLS. It shakes hands as a client does that knows nothing of it, and ends as one should; so it is for ports
// that promise TLS: another server sees a line of garbage. It takes a second at most. The error is that of dial.
func Probe(ctx context.Context, dial Dialer) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, probing)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return false, err
	}
	c := tls.Client(conn, &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // nothing is said
		NextProtos:         []string{protocolHTTP2, protocolHTTP1}, MinVersion: tls.VersionTLS10, CipherSuites: ciphers,
	})
	defer c.Close()
	err = c.HandshakeContext(ctx)
	return err == nil || isAlert(err), nil // a refusal is TLS, too
}

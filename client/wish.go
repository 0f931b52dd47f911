package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/magpie-k8s/magpie/filters"
	"github.com/magpie-k8s/magpie/wire"
)

// A Protocol is what the local process speaks.
type Protocol uint8

// The protocols, by their numbers on the wire.
const (
	Same  Protocol = iota // as the client of the target does, in TLS if it does
	HTTP1                 // HTTP/1.1, not encrypted
	HTTP2                 // HTTP/2 with prior knowledge, not encrypted
	TLS                   // as the client does, but in TLS
)

// A Wish says which requests of a port a session wants, and how. The zero Wish is for whole connections.
type Wish struct {
	Filter     *filters.Filter // nil: whole connections
	Local      Protocol
	Encryption *Encryption // how to end TLS, so that the filter can look inside; nil: TLS passes
	Flush      bool        // close connections that are older than the claim, one by one, as they fall idle
	LikelyTLS  bool        // the port's name or number says so: the agent asks the original before it answers
}

// What an agent must know, by the words of its Hello.
const (
	knowsProtocols = "protocols"
	knowsTLS       = "tls"
	knowsFlush     = "flush"
)

// request is the wish as an agent is asked for it. One that is older than what is wished for is not asked.
func (l *link) request(ctx context.Context, c *Claim) (*wire.ClaimRequest, error) {
	req := &wire.ClaimRequest{
		Port: uint32(c.Port), Mode: wire.Mode_MODE_STEAL, Local: wire.LocalProtocol(c.wish.Local), Flush: c.wish.Flush, LikelyTls: c.wish.LikelyTLS,
	}
	if c.wish.Filter != nil {
		req.Filter = c.wish.Filter.String()
	}
	for _, need := range []struct {
		feature string
		wanted  bool
	}{
		{knowsProtocols, c.wish.Local != Same},
		{knowsTLS, c.wish.Encryption != nil && c.wish.Filter != nil},
		{knowsFlush, c.wish.Flush},
	} {
		if need.wanted && !slices.Contains(l.hello.Features, need.feature) {
			return nil, &wire.Error{
				Errno:  syscall.EOPNOTSUPP,
				Cause:  fmt.Sprintf("claim port %d: the agent, which is of version %s, does not know %s", c.Port, l.hello.Version, need.feature),
				Advice: "start again when all other sessions there are over: then a new agent comes",
			}
		}
	}
	var err error
	if c.wish.Filter == nil {
		return req, nil // whole connections stay encrypted
	}
	req.Tls, err = c.wish.Encryption.message(ctx, c.session.secret())
	return req, err
}

// notice says what an agent wants the user to know, once.
func (s *Session) notice(n *wire.Notice) {
	what := wire.AsError(n.Err())
	if n.Err() == nil {
		return
	}
	s.sayOnce("note", strings.Join(slices.DeleteFunc([]string{what.Cause, what.Advice}, func(part string) bool { return part == "" }), "; "))
}

package agent

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/agent/local"
	"github.com/magpie-k8s/magpie/agent/route"
	"github.com/magpie-k8s/magpie/filters"
	"github.com/magpie-k8s/magpie/wire"
)

// maxTold bounds what is told of one holding. All is said once.
const maxTold = 16

// wish is what a session asks of a port.
type wish struct {
	port      uint16
	filter    *filters.Filter // nil: whole connections
	local     wire.LocalProtocol
	flush     bool
	likelyTLS bool
	tls       *wire.Tls // how to end TLS; nil: it passes, or as others on the port say
}

// wishOf finds what is wrong with a claim before anything is touched, and parses its filter.
func wishOf(req *wire.ClaimRequest) (w wish, err error) {
	if req.Port == 0 || req.Port > math.MaxUint16 {
		return w, &wire.Error{Errno: syscall.EINVAL, Cause: fmt.Sprintf("claim: %d is no port", req.Port)}
	}
	if req.Mode != wire.Mode_MODE_STEAL {
		return w, &wire.Error{Errno: syscall.EOPNOTSUPP, Cause: fmt.Sprintf("claim port %d: this agent cannot mirror", req.Port), Advice: "use --steal"}
	}
	if _, known := wire.LocalProtocol_name[int32(req.Local)]; !known {
		return w, &wire.Error{Errno: syscall.EINVAL, Cause: fmt.Sprintf("claim port %d: local protocol %d is not known", req.Port, req.Local)}
	}
	w = wish{port: uint16(req.Port), local: req.Local, flush: req.Flush, likelyTLS: req.LikelyTls, tls: req.Tls}
	if req.Filter == "" {
		return w, nil
	}
	if w.filter, err = filters.Parse(req.Filter); err != nil {
		return w, &wire.Error{Errno: syscall.EINVAL, Cause: fmt.Sprintf("claim port %d: %v", req.Port, err)}
	}
	return w, nil
}

// holding is what one session holds: some or all requests of a port.
type holding struct {
	wish
	session    *session
	encryption *encryption // by tls
	id         uint64
	since      time.Time
	life       context.Context // ends with end, when it is released
	end        context.CancelFunc
	remove     func() // from the router
	gone       bool   // released, perhaps before it was added

	mu   sync.Mutex
	told []string // by tell
}

// text is the filter as people read it.
func (h *holding) text() string {
	if h.filter == nil {
		return ""
	}
	return h.filter.String()
}

func (h *holding) describe() *wire.Holding {
	return &wire.Holding{
		Port: uint32(h.port), Mode: wire.Mode_MODE_STEAL, Filter: h.text(), SinceUnixNanos: h.since.UnixNano(),
	}
}

// claim is the holding as the router knows it.
func (h *holding) claim() *route.Claim {
	c := &route.Claim{Session: h.session.name, Filter: h.filter, Open: h.open, Observe: h.session.observer(h.port)}
	if h.filter != nil {
		c.Sealed = h.tellSealed
	}
	return c
}

// open is a stream to the local process on which the client's protocol is spoken, whatever the process speaks.
func (h *holding) open(ctx context.Context, v route.Visit) (route.Stream, error) {
	stream := func(ctx context.Context) (local.Stream, error) { return h.stream(ctx, v) }
	switch {
	case v.Protocol == route.HTTP1 && h.local == wire.LocalProtocol_LOCAL_PROTOCOL_HTTP2:
		return local.Adapt(ctx, stream, local.HTTP1, local.HTTP2)
	case v.Protocol == route.HTTP2 && h.local == wire.LocalProtocol_LOCAL_PROTOCOL_HTTP1:
		return local.Adapt(ctx, stream, local.HTTP2, local.HTTP1)
	}
	return stream(ctx)
}

// stream opens one over the carrier whose turn it is. It does not wait for the process to accept: round trips are what users feel.
func (h *holding) stream(ctx context.Context, v route.Visit) (*wire.Stream, error) {
	c := h.session.pick()
	if c == nil {
		return nil, syscall.ECONNREFUSED
	}
	return c.Open(ctx, &wire.Open{What: &wire.Open_Incoming{Incoming: &wire.Incoming{
		Claim: h.id, Client: wire.AddressOf(v.Client), Local: wire.AddressOf(v.Local), Tls: h.hello(v),
	}}})
}

// hello is what the local process shall be greeted with in TLS; nil: it is spoken to in plain.
func (h *holding) hello(v route.Visit) *wire.TlsHello {
	switch {
	case v.TLS != nil && h.local == wire.LocalProtocol_LOCAL_PROTOCOL_UNSPECIFIED:
		return &wire.TlsHello{ServerName: v.TLS.ServerName, Protocols: list(v.TLS.NegotiatedProtocol)}
	case h.local != wire.LocalProtocol_LOCAL_PROTOCOL_TLS:
		return nil
	}
	hello := &wire.TlsHello{}
	if v.TLS != nil {
		hello.ServerName = v.TLS.ServerName
	}
	switch v.Protocol {
	case route.HTTP1:
		hello.Protocols = list("http/1.1")
	case route.HTTP2:
		hello.Protocols = list("h2")
	}
	return hello
}

func list(protocol string) []string {
	if protocol == "" {
		return nil
	}
	return []string{protocol}
}

// tellSealed tells the session that its filter cannot look inside.
func (h *holding) tellSealed() {
	h.tell(&wire.Error{
		Cause:  fmt.Sprintf("port %d: connections there are TLS: a filter cannot look inside, so their requests stay with the original", h.port),
		Advice: "name its certificate under tls: in .magpie/magpie.yaml (docs/SETTINGS.md), or leave the filter out",
	})
}

// tell gives notice, of each thing once.
func (h *holding) tell(what error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Contains(h.told, what.Error()) || len(h.told) >= maxTold {
		return
	}
	h.told = append(h.told, what.Error())
	go h.session.notice(what)
}

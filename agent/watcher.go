package agent

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/magpie-k8s/magpie/agent/route"
	"github.com/magpie-k8s/magpie/wire"
)

// maxWatched is how many exchanges may wait for a slow reader; what comes on top is counted and dropped. A watcher
// must never slow a request down.
const maxWatched = 1024

// watcher is a client that wants to see each exchange on the ports of its session.
type watcher struct {
	queue chan *wire.Exchange
	lost  atomic.Uint64
}

// watch sends exchanges on the stream until the client closes it or the session is over.
func (s *session) watch(ctx context.Context, stream *wire.Stream) error {
	w := &watcher{queue: make(chan *wire.Exchange, maxWatched)}
	s.mu.Lock()
	s.watchers[w] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
	}()
	if err := stream.Accepted(netip.AddrPort{}); err != nil {
		return err
	}
	closed := make(chan struct{})
	go waitClosed(stream, closed)
	for {
		select {
		case e := <-w.queue:
			e.Lost = w.lost.Swap(0)
			if err := stream.Send(e); err != nil {
				return err
			}
		case <-closed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitClosed returns when the client has closed its side, on which it never writes.
func waitClosed(stream *wire.Stream, closed chan<- struct{}) {
	defer close(closed)
	var b [1]byte
	_, _ = stream.Read(b[:])
}

// observer returns what the router tells of each exchange, nil while nobody watches.
func (s *session) observer(local uint16) func(route.Exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.watchers) == 0 {
		return nil
	}
	return func(e route.Exchange) { s.observe(local, e) }
}

func (s *session) observe(port uint16, e route.Exchange) {
	message := &wire.Exchange{
		Session:        e.Session,
		Client:         wire.AddressOf(e.Client),
		Local:          wire.AddressOf(netip.AddrPortFrom(netip.IPv6Unspecified(), port)),
		Method:         []byte(e.Method),
		Path:           []byte(e.Path),
		Status:         uint32(e.Status),
		DurationMicros: uint64(e.Duration.Microseconds()),
		AtUnixNanos:    time.Now().UnixNano(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		select {
		case w.queue <- message:
		default:
			w.lost.Add(1)
		}
	}
}

package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// An Exchange is a request that was routed on one of the session's ports, and its answer.
type Exchange struct {
	Session  string // who answered; empty: the original
	Client   netip.AddrPort
	Method   string
	Path     string
	Status   int
	Duration time.Duration
	Lost     int // exchanges before this one that came too fast to be told
}

// A watch is a wish to be told of exchanges, on each link.
type watch struct {
	session *Session
	failed  chan error // the first link that cannot tell

	telling sync.Mutex // one exchange at a time
	told    func(Exchange)

	mu      sync.Mutex
	streams map[*wire.Stream]struct{}
	over    bool
}

// Watch tells of each exchange on the ports that are claimed from now on, until ctx or the session ends. One at a time
// is told. Whoever calls Watch calls wait.
func (s *Session) Watch(ctx context.Context, told func(Exchange)) (wait func() error, err error) {
	w := &watch{session: s, failed: make(chan error, 1), told: told, streams: map[*wire.Stream]struct{}{}}
	s.mu.Lock()
	s.watches = append(s.watches, w)
	links := slices.Clone(s.links)
	s.mu.Unlock()
	for _, l := range links {
		w.follow(l)
	}
	return func() error {
		defer w.end()
		select {
		case err := <-w.failed:
			return err
		case <-s.done:
			return nil
		case <-ctx.Done():
			return nil
		}
	}, nil
}

// end closes the streams, and there will be no others.
func (w *watch) end() {
	w.session.mu.Lock()
	w.session.watches = slices.DeleteFunc(w.session.watches, func(o *watch) bool { return o == w })
	w.session.mu.Unlock()
	w.mu.Lock()
	streams := w.streams
	w.streams, w.over = nil, true
	w.mu.Unlock()
	for stream := range streams {
		stream.Close()
	}
}

// follow tells of the exchanges on one link, too. It does not wait for the agent: claims do, because what was claimed
// before a watch is not told.
func (w *watch) follow(l *link) {
	stream, err := l.carrier.Open(context.Background(), &wire.Open{What: &wire.Open_Watch{Watch: &wire.Watch{}}})
	if err != nil {
		return // the link is over
	}
	w.mu.Lock()
	over := w.over
	if !over {
		w.streams[stream] = struct{}{}
	}
	w.mu.Unlock()
	if over {
		stream.Close()
		return
	}
	opened := make(chan struct{})
	l.mu.Lock()
	l.watching = append(l.watching, opened)
	l.mu.Unlock()
	go func() {
		defer stream.Close()
		err := stream.Opened(context.Background())
		close(opened)
		if err == nil {
			err = w.receive(l, stream)
		}
		if err != nil && !errors.Is(err, net.ErrClosed) && l.carrier.Err() == nil {
			select {
			case w.failed <- err:
			default:
			}
		}
	}()
}

func (w *watch) receive(l *link, stream *wire.Stream) error {
	for {
		e, err := stream.Receive()
		if err != nil {
			return err
		}
		client, err := e.Client.AddrPort()
		if err != nil {
			return err
		}
		x := Exchange{
			Session: e.Session, Client: client, Method: string(e.Method), Path: string(e.Path), Status: int(e.Status),
			Duration: time.Duration(e.DurationMicros) * time.Microsecond, Lost: int(e.Lost),
		}
		if x.Session == l.hello.Name {
			x.Session = w.session.Name() // each agent has its own name for us
		}
		w.telling.Lock()
		w.told(x)
		w.telling.Unlock()
	}
}

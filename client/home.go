package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// homeless is how long a connection waits for an agent to make it from. Longer, and applications give up by themselves.
const homeless = 10 * time.Second

// lockedElect chooses the link by which the local process connects, looks up names and gets its environment: the one
// that was chosen before while it stands, else that of the oldest place.
func (s *Session) lockedElect() {
	home := s.home
	if !s.ready || home == nil || home.replica.link != home || !home.replica.wanted {
		home = nil
		for _, l := range s.links {
			if home == nil || l.replica.before(home.replica) {
				home = l
			}
		}
	}
	if home == s.home {
		return
	}
	if s.ready && home != nil && home.replica != s.settled && !s.over() {
		go s.cfg.Step("home", home.replica.on("connections and names are looked after there now"))
	}
	if home != nil {
		s.settled = home.replica
	}
	s.home = home
	close(s.changed)
	s.changed = make(chan struct{})
}

// before reports whether r is the better home: a place that is there to stay, else the older one.
func (r *replica) before(o *replica) bool {
	if r.wanted != o.wanted {
		return r.wanted
	}
	return r.number < o.number
}

// homeLink returns the home link, which must not be the broken one. It waits for one when there is none.
func (s *Session) homeLink(ctx context.Context, broken *link) (*link, error) {
	timer := time.NewTimer(homeless)
	defer timer.Stop()
	for {
		s.mu.Lock()
		home, changed := s.home, s.changed
		s.mu.Unlock()
		if home != nil && home != broken {
			return home, nil
		}
		select {
		case <-changed:
		case <-s.done:
			return nil, s.errOver()
		case <-timer.C:
			return nil, &wire.Error{Errno: syscall.ENETUNREACH, Cause: fmt.Sprintf("no agent of %s for %v", s.cfg.Target, homeless)}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// atHome does something on the home link, and again on the next one when that link broke under it.
func (s *Session) atHome(ctx context.Context, do func(*link) error) error {
	var broken *link
	for {
		l, err := s.homeLink(ctx, broken)
		if err != nil {
			return err
		}
		err = do(l)
		if err == nil || ctx.Err() != nil || l.carrier.Err() == nil {
			return err
		}
		broken = l
	}
}

// Environment returns the variables of the original at home, NAME=value.
func (s *Session) Environment(ctx context.Context) (env []string, err error) {
	err = s.atHome(ctx, func(l *link) (err error) {
		if l.env != nil {
			env, err = l.env.wait(ctx)
		} else {
			env, err = l.environment(ctx)
		}
		return err
	})
	return env, err
}

// Names are the files by which the target resolves names, as it sees them.
type Names struct {
	ResolvConf, Hosts, Nsswitch []byte
	Hostname                    string
}

// Names returns those of home.
func (s *Session) Names(ctx context.Context) (names Names, err error) {
	err = s.atHome(ctx, func(l *link) (err error) {
		if l.names != nil {
			names, err = l.names.wait(ctx)
		} else {
			names, err = l.lookups(ctx)
		}
		return err
	})
	return names, err
}

// Ports are those that the pod at home declares: none where it declares none, and on this host. A port that is not among
// them may be served as well.
func (s *Session) Ports() []uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.home == nil {
		return nil
	}
	if at, ok := s.home.replica.place.(*pod); ok {
		return at.ports()
	}
	return nil
}

// LikelyTLS reports whether the number of a port, or what the pod at home says of it, promises TLS.
func (s *Session) LikelyTLS(port uint16) bool {
	if port%1000 == 443 { // 443, 8443, 9443
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.home == nil {
		return false
	}
	at, ok := s.home.replica.place.(*pod)
	return ok && at.likelyTLS(port)
}

// A Conn is a connection in the target: one that the local process made, or one that came for it.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Dial connects from home; network is tcp or udp. Its errors carry the errno that the target got. With udp, one Write
// or Read is one datagram. While there is no agent it waits for one, for 10 s.
func (s *Session) Dial(ctx context.Context, network string, to netip.AddrPort) (c Conn, err error) {
	err = s.atHome(ctx, func(l *link) (err error) {
		c, err = l.dial(ctx, network, to)
		return err
	})
	return c, err
}

func (l *link) dial(ctx context.Context, network string, to netip.AddrPort) (Conn, error) {
	connect := &wire.Connect{Network: wire.Network_NETWORK_TCP, To: wire.AddressOf(to)}
	if network == "udp" {
		connect.Network = wire.Network_NETWORK_UDP
	}
	stream, err := l.carrier.Open(ctx, &wire.Open{What: &wire.Open_Connect{Connect: connect}})
	if err != nil {
		return nil, err
	}
	if err := stream.Opened(ctx); err != nil {
		stream.Close()
		return nil, err
	}
	if network == "udp" {
		return datagrams{wire.NewDatagrams(stream), stream}, nil
	}
	return stream, nil
}

// datagrams is a Conn whose writes are datagrams.
type datagrams struct {
	*wire.Datagrams
	stream *wire.Stream
}

func (d datagrams) CloseWrite() error { return d.stream.CloseWrite() }

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/magpie-k8s/magpie/agent/handshake"
	"github.com/magpie-k8s/magpie/agent/target"
	"github.com/magpie-k8s/magpie/wire"
)

// maxPEM bounds a file with certificates: a bundle of all public authorities has a quarter of it.
const maxPEM = 1 << 20

// encryption is how we take the original's place in TLS on a port, for all who hold a part of it.
type encryption struct {
	*handshake.Port
	said *wire.Tls // in whose words
}

// encryptionOf reads what a session says. Files are those of the target that it sees.
func encryptionOf(port uint16, said *wire.Tls, sees *target.Target) *encryption {
	return &encryption{said: said, Port: handshake.New(handshake.Config{
		Port: port, Own: pairOf(said.GetOwn()),
		Clients: handshake.Verify(said.GetClients()), ClientCA: textOf(said.GetClientCa()),
		Original: pairOf(said.GetOriginal()), Anonymous: said.GetAnonymous(),
		OriginalCA: textOf(said.GetOriginalCa()), OriginalName: said.GetOriginalName(),
		Read: func(path string) ([]byte, error) { return sees.ReadFile(path, maxPEM) },
	})}
}

func pairOf(c *wire.Certificate) handshake.Pair {
	return handshake.Pair{Certificate: textOf(c.GetChain()), Key: textOf(c.GetKey())}
}

func textOf(p *wire.Pem) handshake.Text {
	return handshake.Text{Path: p.GetPath(), PEM: p.GetContent()}
}

// lockedAgree fails if another holder of the port ends TLS there in another way. Those who say nothing of it look inside as the others do.
func (at *port) lockedAgree(h *holding) error {
	for _, other := range at.holdings {
		if h.encryption != nil && other.encryption != nil && !proto.Equal(other.encryption.said, h.encryption.said) {
			return &wire.Error{
				Errno: syscall.EEXIST, Cause: fmt.Sprintf("%s ends TLS there in another way since %s", other.session.name, other.since.Format(time.TimeOnly)),
				Advice: "say the same of it under tls: in the settings, or nothing",
			}
		}
	}
	return nil
}

// lockedEncryption is the one that the port's holders agree on; nil: TLS passes.
func (at *port) lockedEncryption() *encryption {
	for _, h := range at.holdings {
		if h.encryption != nil {
			return h.encryption
		}
	}
	return nil
}

// shakeHands serves a connection of a port where we take the original's place.
func (p *ports) shakeHands(ctx context.Context, c *net.TCPConn, at *port, e *encryption) {
	client, local := c.RemoteAddr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort()
	p.shaking.Add(1)
	r, err := e.Accept(ctx, c, func(ctx context.Context) (net.Conn, error) { return p.dialOriginal(ctx, client, local) })
	p.shaking.Add(-1)
	if err != nil {
		p.tell(at, err)
		return
	}
	defer r.Close()
	defer r.Client.Close()
	p.tell(at, r.Why)
	p.proxy.ServeWith(ctx, r.Client, &at.route, r.Dial)
}

// tell lets those who hold a part of the port know what is theirs to mend. All other errors are clients' own.
func (p *ports) tell(at *port, err error) {
	var fault *handshake.Error
	if !errors.As(err, &fault) {
		return
	}
	p.mu.Lock()
	holdings := slices.Clone(at.holdings)
	p.mu.Unlock()
	for _, h := range holdings {
		h.tell(fault)
	}
}

// seal finds out what a filter can see. What speaks for TLS has to be said by the port's name or number: an original that speaks something else is not
// to be bothered.
func (p *ports) seal(ctx context.Context, h *holding) (sealed bool) {
	p.mu.Lock()
	e := p.lockedPort(h.port).lockedEncryption()
	p.mu.Unlock()
	dial := func(ctx context.Context) (net.Conn, error) { return p.dialSelf(ctx, h.port) }
	switch {
	case h.filter == nil:
	case e != nil:
		if err := e.Try(ctx, dial); err != nil {
			h.tell(err)
		}
	case h.likelyTLS:
		sealed, _ = handshake.Probe(ctx, dial) // nobody there: nothing to say
	}
	return sealed
}

// isTLS reports whether a client's first bytes begin TLS, as far as they go.
func isTLS(first []byte) bool {
	begins, _ := handshake.Looks(first)
	return begins
}

// dialSelf connects to the original from inside, where it listens.
func (p *ports) dialSelf(ctx context.Context, port uint16) (net.Conn, error) {
	listeners, err := p.target.Listeners()
	if err != nil {
		return nil, err
	}
	for _, l := range listeners {
		if l.Port() != port {
			continue
		}
		to := l.Addr().Unmap()
		switch {
		case to.IsUnspecified() && to.Is4():
			to = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		case to.IsUnspecified():
			to = netip.IPv6Loopback()
		}
		local := netip.AddrPortFrom(to, port)
		return p.dialOriginal(ctx, netip.AddrPortFrom(to, ourPort), local)
	}
	return nil, syscall.ECONNREFUSED
}

// ourPort is the client's port that the original sees of connections of our own: tcpmux, which nobody is.
const ourPort = 1

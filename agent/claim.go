package agent

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/agent/older"
	"github.com/magpie-k8s/magpie/wire"
)

// A grant is what became known when a claim was granted.
type grant struct {
	proof  time.Duration // how long a connection of our own took to meet itself
	older  int           // connections that were open before, and do not pass through us
	sealed bool          // they are TLS, and nobody said how to look inside
}

// claim gives requests of a port to a session and proves that its connections arrive.
func (p *ports) claim(ctx context.Context, h *holding) (g grant, err error) {
	if p.redirect == nil {
		return g, &wire.Error{
			Errno: syscall.EOPNOTSUPP, Cause: fmt.Sprintf("claim port %d: the session has no target", h.port),
			Advice: "name one whose requests to take, such as --target deploy/NAME",
		}
	}
	if h.flush {
		if err := older.MayFlush(ctx, p.target.NS); err != nil {
			return g, fmt.Errorf("claim port %d: %w", h.port, err)
		}
	}
	if h.filter != nil && h.tls != nil { // without a filter nobody looks inside
		h.encryption = encryptionOf(h.port, h.tls, h.session.target)
		if err := h.encryption.Check(ctx); err != nil {
			return g, fmt.Errorf("claim port %d: %w", h.port, err)
		}
	}
	if err := p.add(h); err != nil {
		return g, err
	}
	if g, err = p.prove(ctx, h); err != nil {
		return g, errors.Join(fmt.Errorf("claim port %d: %w", h.port, err), p.release(h))
	}
	return g, nil
}

// prove finds out what the claim covers, and what it does not.
func (p *ports) prove(ctx context.Context, h *holding) (g grant, err error) {
	begin := time.Now()
	if err := p.redirect.SelfTest(ctx, h.port); err != nil {
		return g, err
	}
	g.proof = time.Since(begin)
	g.sealed = p.seal(ctx, h)
	before, err := older.Find(ctx, p.target.NS, h.port)
	if err != nil { // a kernel that does not tell: the claim is none the worse for it
		h.tell(err)
		return g, nil
	}
	g.older = before.Len()
	if h.flush { // also of those that are shaking hands still, and do not count yet
		p.conn.Go(func() { h.flushOlder(before) })
	}
	return g, nil
}

// flushOlder closes connections that are older than the claim, as long as it stands, and tells what came of it.
func (h *holding) flushOlder(before *older.Connections) {
	done, err := before.Flush(h.life)
	switch {
	case h.life.Err() != nil:
	case err != nil:
		h.session.notice(err)
	case done.Stayed > 0:
		h.session.notice(&wire.Error{
			Cause:  fmt.Sprintf("port %d: of the connections older than the session, %d closed and %d open: something goes over them all the time", h.port, done.Closed, done.Stayed),
			Advice: "their requests stay with the original until their clients close them",
		})
	case done.Closed > 0:
		h.session.notice(&wire.Error{Cause: fmt.Sprintf("port %d: no connection is older than the session any more, %d closed", h.port, done.Closed)})
	}
}

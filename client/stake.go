package client

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// A stake is a claim's part on one link.
type stake struct {
	link  *link
	claim *Claim
	done  chan struct{} // closed when the agent has answered

	// Set before done is closed.
	id     uint64
	proof  time.Duration
	older  int
	sealed bool
	err    error
}

// on returns the claim's stake on a link, which is made if there is none yet; nil when the claim is closed.
func (c *Claim) on(l *link) *stake {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	k := c.stakes[l]
	if k == nil {
		k = &stake{link: l, claim: c, done: make(chan struct{})}
		c.stakes[l] = k
		go k.make()
	}
	return k
}

// make asks the agent, whoever waits for the answer: what is not wanted any more when it comes is released again.
func (k *stake) make() {
	k.err = k.ask()
	close(k.done)
	if k.err == nil && k.claim.isClosed() {
		_ = k.link.release(context.Background(), k.id)
	}
}

// stands reports whether the agent gave what was asked for.
func (k *stake) stands() bool {
	select {
	case <-k.done:
		return k.err == nil
	default:
		return false
	}
}

// refused reports whether the agent said no to what is still wanted. A link that broke is no answer.
func (k *stake) refused() bool {
	return k.err != nil && k.link.carrier.Err() == nil && !k.claim.isClosed()
}

// insist waits for stakes that nobody else waits for. It says which are refused, and asks for those again, as long as
// they are wanted: a colleague may end his session, and an agent that hung may need a moment.
func (s *Session) insist(answers <-chan *stake, asked int) {
	for range asked {
		if k := <-answers; k.refused() {
			s.cfg.Step("refused", k.link.replica.on(k.err))
			go k.repeat()
		}
	}
}

func (k *stake) repeat() {
	for try := 0; k.refused() && k.rest(pauseBefore(try)); try++ {
		k.claim.forget(k.link)
		if k = k.claim.on(k.link); k == nil {
			return
		}
		<-k.done
	}
	if k.err == nil && !k.claim.isClosed() {
		k.claim.session.cfg.Step("claimed", k.link.replica.on(fmt.Sprintf("port %d", k.claim.Port)))
	}
}

// rest reports whether the stake is still wanted after a while.
func (k *stake) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-k.claim.over:
	case <-k.link.carrier.Done():
	}
	return false
}

// tell passes the stake on when the agent has answered.
func (k *stake) tell(answers chan<- *stake) {
	<-k.done
	answers <- k
}

func (c *Claim) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// forget drops the stake on a link that is over.
func (c *Claim) forget(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.stakes, l)
}

// ask makes the claim on this agent and returns when a connection was seen to arrive.
func (k *stake) ask() error {
	l := k.link
	req, err := l.request(context.Background(), k.claim)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.asking++
	watching := l.watching
	l.mu.Unlock()
	defer l.answered()
	for _, answered := range watching {
		<-answered
	}
	resp, err := l.calls.Claim(context.Background(), req)
	if err != nil {
		return l.explain(err)
	}
	if taken := resp.GetConflict(); taken != nil {
		return conflictOf(k.claim.Port, taken)
	}
	got := resp.GetClaimed()
	if got == nil {
		return &wire.Error{Errno: syscall.EPROTO, Cause: "claim: the agent gave no answer that this client knows"}
	}
	k.id, k.proof = got.Claim, time.Duration(got.SelfTestMicros)*time.Microsecond
	k.older, k.sealed = int(got.Older), got.Sealed
	l.register(got.Claim, k.claim)
	return nil
}

// register makes a claim known to incoming connections, those that were faster than the answer included.
func (l *link) register(id uint64, c *Claim) {
	l.mu.Lock()
	l.claims[id] = c
	early := l.early[id]
	delete(l.early, id)
	l.mu.Unlock()
	for _, in := range early {
		c.offer(in)
	}
}

// answered refuses connections of claims that turned out not to be ours.
func (l *link) answered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asking--; l.asking > 0 {
		return
	}
	for id, early := range l.early {
		for _, in := range early {
			go in.Refuse(syscall.ECONNREFUSED)
		}
		delete(l.early, id)
	}
}

// connection brings a connection to its claim.
func (l *link) connection(in Incoming, id uint64) {
	l.mu.Lock()
	c := l.claims[id]
	if c == nil && l.asking > 0 && len(l.early[id]) < maxWaiting {
		l.early[id] = append(l.early[id], in)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	if c == nil {
		_ = in.Refuse(syscall.ECONNREFUSED)
		return
	}
	c.offer(in)
}

// release lets a claim go on this agent.
func (l *link) release(ctx context.Context, id uint64) error {
	l.mu.Lock()
	delete(l.claims, id)
	l.mu.Unlock()
	_, err := l.calls.Release(ctx, &wire.ReleaseRequest{Claim: id})
	if l.carrier.Err() != nil {
		return nil // it went with the link
	}
	return err
}

// drop makes the claims forget a link that is over.
func (l *link) drop() {
	l.mu.Lock()
	claims := l.claims
	l.claims, l.early = map[uint64]*Claim{}, map[uint64][]Incoming{}
	l.mu.Unlock()
	for _, c := range claims {
		c.forget(l)
	}
}

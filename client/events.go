package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/magpie-k8s/magpie/client/cluster"
)

const (
	// beforeStory is how long the first event waits for a claim, so that it can say what the session takes.
	beforeStory = 2 * time.Second
	// recordTimeout bounds what an event may cost the end of a session.
	recordTimeout = 2 * time.Second
	// maxStory is how many different claims are told; the API takes 1,024 bytes in all.
	maxStory, maxTaken = 5, 120
)

// A recorder is a place whose people want to know of sessions.
type recorder interface {
	record(ctx context.Context, reason, note string) error
}

// record puts an event on the pod; where there is none, nobody asks.
func (p *pod) record(ctx context.Context, reason, note string) error {
	now := p.current()
	if now.Name == "" {
		return nil
	}
	return p.cfg.Cluster.Record(ctx, now, reason, note)
}

// chronicle tells the people of a place that the session is there, and that it has ended: once each, however often its
// links break.
func (s *Session) chronicle(r *replica, at recorder) {
	began := time.Now()
	select {
	case <-s.claimed:
	case <-time.After(beforeStory):
	case <-r.over:
	case <-s.done:
	}
	if err := record(at, cluster.ReasonStarted, s.story("starts")); err != nil {
		s.sayOnce("note", fmt.Sprintf("no event tells of the session: %v", err))
		return
	}
	select {
	case <-r.over:
	case <-s.done:
	}
	note := s.story("ended after " + time.Since(began).Round(time.Second).String() + ", " + s.Tally())
	if cause := s.Err(); cause != nil {
		note += ": " + oneLine(cause.Error())
	}
	_ = record(at, cluster.ReasonEnded, note) // the pod may be gone, and the user is
}

func record(at recorder, reason, note string) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	return at.record(ctx, reason, note)
}

// story says in one line who does what.
func (s *Session) story(verb string) string {
	who := self(s.cfg.Command)
	s.mu.Lock()
	defer s.mu.Unlock()
	takes := "takes nothing"
	if len(s.takes) > 0 {
		takes = "takes " + strings.Join(s.takes, " and ")
	}
	return fmt.Sprintf("session %s of %s (%s) %s; %s", s.id, oneLine(who.User+"@"+who.Host), oneLine(who.Command), verb, takes)
}

// tell notes what a claim takes, for the story.
func (s *Session) tell(c *Claim) {
	takes := fmt.Sprintf("every connection to port %d", c.Port)
	if f := c.wish.Filter; f != nil {
		takes = fmt.Sprintf("requests to port %d with %s", c.Port, short(f.String(), maxTaken))
	}
	s.mu.Lock()
	if !slices.Contains(s.takes, takes) && len(s.takes) < maxStory {
		s.takes = append(s.takes, takes)
	}
	s.mu.Unlock()
	s.first.Do(func() { close(s.claimed) })
}

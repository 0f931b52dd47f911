package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// follow makes the session stand in the places that there are now, and returns the replicas that are new. A place
// that is not among them any more is not entered again; while its link stands, it may be of use, and does no harm.
func (s *Session) follow(life context.Context, now []place) (fresh []*replica) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() {
		return nil
	}
	for p, r := range s.replicas {
		r.wanted = slices.Contains(now, p)
		if !r.wanted && r.link == nil {
			r.stop()
			delete(s.replicas, p)
		}
	}
	for _, p := range now {
		if s.replicas[p] != nil {
			continue
		}
		ctx, stop := context.WithCancel(life)
		r := &replica{session: s, place: p, number: s.seen, first: make(chan error, 1), stop: stop, over: make(chan struct{}), wanted: true}
		s.seen++
		s.replicas[p] = r
		s.work.Go(func() { r.run(ctx) })
		fresh = append(fresh, r)
	}
	s.lockedElect()
	return fresh
}

// remove forgets a replica whose loop has ended.
func (s *Session) remove(r *replica) {
	r.stop()
	close(r.over)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replicas[r.place] == r {
		delete(s.replicas, r.place)
	}
}

// join makes a link one of the session's: claims and watches extend to it.
func (s *Session) join(l *link) {
	r := l.replica
	s.mu.Lock()
	if s.over() {
		s.mu.Unlock()
		l.leave()
		return
	}
	if s.name == "" {
		s.name = l.hello.Name
	}
	r.link = l
	s.links = append(s.links, l)
	s.lockedElect()
	s.lockedAccompany()
	claims, watches, later := slices.Clone(s.claims), slices.Clone(s.watches), s.ready
	if at, ok := r.place.(recorder); ok && r.lost.IsZero() {
		s.work.Go(func() { s.chronicle(r, at) })
	}
	s.mu.Unlock()
	if r.lost.IsZero() {
		r.introduce(l)
	}
	for _, w := range watches {
		w.follow(l)
	}
	if later {
		go s.extend(l, claims)
	}
	select {
	case r.first <- nil:
	default:
	}
}

// extend makes the session's claims on a link that came later, and says when they stand.
func (s *Session) extend(l *link, claims []*Claim) {
	r, lost := l.replica, l.replica.lost
	answers, asked := make(chan *stake, len(claims)), 0
	for _, c := range claims {
		if k := c.on(l); k != nil {
			asked++
			go k.tell(answers)
		}
	}
	s.insist(answers, asked)
	switch {
	case l.carrier.Err() != nil:
	case lost.IsZero():
		s.cfg.Step("replica", r.on(claimed(asked)))
	default:
		s.cfg.Step("back", r.on(fmt.Sprintf("after %v, %s", time.Since(lost).Round(time.Millisecond), claimed(asked))))
	}
}

func claimed(ports int) string {
	switch ports {
	case 0:
		return "no port to claim"
	case 1:
		return "the port is claimed there"
	}
	return fmt.Sprintf("%d ports are claimed there", ports)
}

// part takes a link that is over from the session, and reports whether its replica shall make another one.
func (s *Session) part(l *link, why error) (again bool) {
	r := l.replica
	l.close()
	l.drop()
	cause, final := r.place.lost(why)
	var bye *farewell
	if errors.As(why, &bye) && !final {
		cause, final = bye.error, bye.final
	}
	s.mu.Lock()
	r.link = nil
	s.links = slices.DeleteFunc(s.links, func(o *link) bool { return o == l })
	s.lockedElect()
	s.lockedAccompany()
	again = r.wanted && !final && !s.over()
	over := s.over()
	s.mu.Unlock()
	switch {
	case over:
	case final:
		s.end(cause)
	case again:
		s.cfg.Step("lost", r.on(fmt.Sprintf("%v; its requests pass to the original meanwhile", cause)))
	default:
		s.cfg.Step("gone", r.on(cause))
	}
	return again
}

func (s *Session) isReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// sayOnce is for what is true of each replica.
func (s *Session) sayOnce(what, detail string) {
	s.mu.Lock()
	said := s.notes[detail]
	s.notes[detail] = true
	s.mu.Unlock()
	if !said {
		s.cfg.Step(what, detail)
	}
}

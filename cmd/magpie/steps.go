package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/magpie-k8s/magpie/client"
)

// steps tells on stderr what Magpie does; while it attaches, each line with the time since the last. Safe for concurrent
// use: the command is running by the time of the last lines.
type steps struct {
	out  io.Writer
	self string // the session's own name, once it has one

	mu       sync.Mutex
	last     time.Time
	attached bool
}

func newSteps(out io.Writer) *steps { return &steps{out: out, last: time.Now()} }

// done tells that a step of the attaching is done, or, later on, what became of the session.
func (s *steps) done(what, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.attached {
		detail += " (" + short(now.Sub(s.last)) + ")"
	}
	fmt.Fprintf(s.out, "magpie: %-12s %s\n", what, detail)
	s.last = now
}

// attach is done: what takes long from here on is the command.
func (s *steps) attach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attached = true
}

// part tells of a part of the start, for -v.
func (s *steps) part(what, detail string) { s.line("", what+" "+detail) }

// ready tells that a port is claimed and that connections to it were seen to arrive.
func (s *steps) ready(p *pod, claim *client.Claim) {
	what := "every connection comes to " + p.command
	if p.wish.Filter != nil {
		what = fmt.Sprintf("requests with %s come to %s, all others stay with the original", p.wish.Filter, p.command)
	}
	s.line("ready", fmt.Sprintf("port %d of %s: %s (proved in %s)", claim.Port, p.where(), what, short(claim.Proof)))
	s.uncovered(p, claim)
}

// uncovered tells what the claim does not cover.
func (s *steps) uncovered(p *pod, claim *client.Claim) {
	if claim.Sealed && p.wish.Filter != nil {
		s.note("port %d of %s is TLS: a filter cannot look inside, so all requests stay with the original. Name its certificate under tls: in .magpie/magpie.yaml (docs/SETTINGS.md), or leave the filter out", claim.Port, p.target)
	}
	switch n := claim.Older; {
	case n == 0:
	case p.wish.Flush:
		s.note("port %d of %s: %s open before: closed one by one, each when nothing goes over it", claim.Port, p.target, connectionsWere(n))
	default:
		s.note("port %d of %s: %s open before: their requests stay with the original until their clients close them (--flush closes them)", claim.Port, p.target, connectionsWere(n))
	}
}

func connectionsWere(n int) string {
	if n == 1 {
		return "1 connection was"
	}
	return fmt.Sprintf("%d connections were", n)
}

// unclaimed tells, once, that nothing is taken.
func (s *steps) unclaimed(p *pod, port uint16) {
	s.note("port %d of %s stays with the original: without --steal, %s is heard on this machine only (mirroring is not in this version)", port, p.target, p.command)
}

// undeclared tells of a port that is perhaps another than was meant: that of the Service, or one for debugging.
func (s *steps) undeclared(target string, port uint16, declared []uint16) {
	theirs := strings.Trim(fmt.Sprint(declared), "[]")
	s.note("%s declares no port %d, but %s: does anybody send requests there? A Service's targetPort counts, not its port", target, port, theirs)
}

// refused tells why a port could not be claimed. The command sees the errno only.
func (s *steps) refused(err error) {
	s.line("refused", err.Error())
	if hint := hintOf(err); hint != "" {
		s.write(fmt.Sprintf("hint: %s\n", hint))
	}
}

// request tells who answered a request, for -v.
func (s *steps) request(e client.Exchange) {
	who := "original"
	switch e.Session {
	case "":
	case s.self:
		who = "local"
	default:
		who = e.Session // a colleague
	}
	if e.Lost > 0 {
		s.note("%d requests came too fast to be shown", e.Lost)
	}
	s.line(who, fmt.Sprintf("%s %s from %s: %d in %s", e.Method, e.Path, e.Client, e.Status, short(e.Duration)))
}

func (s *steps) note(format string, args ...any) { s.line("note", fmt.Sprintf(format, args...)) }

// summary is the last line of a session that took something.
func (s *steps) summary(p *pod) {
	if p.claims.Load() == 0 {
		return
	}
	s.line("end", fmt.Sprintf("%s took %s", p.command, p.session.Tally()))
}

func (s *steps) line(what, text string) { s.write(fmt.Sprintf("magpie: %-12s %s\n", what, text)) }

func (s *steps) write(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = io.WriteString(s.out, text)
}

// short rounds a duration to what a reader can use: three digits.
func short(d time.Duration) string {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= 100*unit {
			return d.Round(unit).String()
		}
		if d >= unit {
			return d.Round(unit / 10).String()
		}
	}
	return strings.TrimSpace(d.String())
}

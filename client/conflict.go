package client

import (
	"fmt"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/magpie-k8s/magpie/wire"
)

// A Conflict is the refusal of a claim: a colleague holds requests that it wants.
type Conflict struct {
	Port   uint16
	Holder string // whose session, and what it runs
	Filter string // what it takes; empty: every connection
	Since  time.Time
}

func conflictOf(port uint16, taken *wire.Conflict) *Conflict {
	who := taken.GetHolder().GetWho()
	holder := fmt.Sprintf("%s@%s", who.GetUser(), who.GetHost())
	if command := who.GetCommand(); command != "" {
		holder += " (" + command + ")"
	}
	return &Conflict{Port: port, Holder: oneLine(holder), Filter: taken.GetHeld().GetFilter(), Since: time.Unix(0, taken.GetHeld().GetSinceUnixNanos())}
}

func (c *Conflict) Error() string {
	what := "every connection"
	if c.Filter != "" {
		what = "requests with " + c.Filter
	}
	return fmt.Sprintf("port %d: %s takes %s, since %s", c.Port, c.Holder, what, c.Since.Format("15:04:05"))
}

// Hint names the choices.
func (c *Conflict) Hint() string {
	if c.Filter == "" {
		return "ask for requests of your own with a filter, as in --http-header-filter 'x-user: me': it is asked before theirs"
	}
	return "take a filter that no request of theirs can match, or ask them to end their session"
}

// Unwrap returns EADDRINUSE, which is what listen(2) says of a port that another holds.
func (c *Conflict) Unwrap() error { return syscall.EADDRINUSE }

// maxHolder is what a line has room for.
const maxHolder = 80

// oneLine makes what a colleague's machine said fit for our terminal: a command may be a script of many lines, or of
// escape sequences.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }), " ")
	return short(s, maxHolder)
}

// short cuts what is longer than n characters.
func short(s string, n int) string {
	if long := []rune(s); len(long) > n {
		s = string(long[:n-3]) + "..."
	}
	return s
}

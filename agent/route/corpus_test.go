package route

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The corpus of odd conversations lies in testdata/odd, whose README says how it is written.

// An oddity is one conversation of the corpus. Every turn is for a session up to the one with the number raw; from there on the
// original has the connection.
type oddity struct {
	name    string
	turns   []turn
	raw     int
	atOnce  bool // the client says all that it has to say before it hears anything
	passed  bool // there is no use in what a session makes of it
	ends    end
	private bool // not for real servers
}

// A turn is what the client says and what it is answered.
type turn struct {
	empty       string // comes before what it says; the original hears it, a session does not
	say, answer string
	clientEnds  bool // after say
}

// Who ends a conversation, once all is said.
type end uint8

const (
	clientEnds end = iota
	clientResets
	originalEnds
	originalResets
)

// says returns all that the client says, as the original hears it.
func (o *oddity) says() string {
	var b strings.Builder
	for _, t := range o.turns {
		b.WriteString(t.empty + t.say)
	}
	return b.String()
}

// answers is says for the other side.
func (o *oddity) answers() string {
	var b strings.Builder
	for _, t := range o.turns {
		b.WriteString(t.answer)
	}
	return b.String()
}

// ours returns how many turns are for a session.
func (o *oddity) ours() int { return min(o.raw, len(o.turns)) }

const neverRaw = 1 << 30

// macros are what most conversations have in common. All requests that a macro begins carry the field that the session wants.
var macros = strings.NewReplacer(
	"{GET}", `GET / HTTP/1.1\r\nHost: shop\r\nX-User: me\r\n`,
	"{HEAD}", `HEAD / HTTP/1.1\r\nHost: shop\r\nX-User: me\r\n`,
	"{POST}", `POST / HTTP/1.1\r\nHost: shop\r\nX-User: me\r\n`,
	"{CHUNKED}", `POST / HTTP/1.1\r\nHost: shop\r\nX-User: me\r\nTransfer-Encoding: chunked\r\n\r\n`,
	"{mine}", `X-User: me\r\n`,
	"{ok}", `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`,
	"{bad}", `HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
	`"`, `\"`,
)

// corpus reads all conversations.
func corpus(tb testing.TB) []*oddity {
	tb.Helper()
	files, err := filepath.Glob("testdata/odd/*.txt")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no corpus: %v", err)
	}
	var all []*oddity
	names := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		some, err := parseOdd(string(text))
		if err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		for _, o := range some {
			o.name = strings.TrimSuffix(filepath.Base(file), ".txt") + ": " + o.name
			if names[o.name] {
				tb.Fatalf("two of the name %q", o.name)
			}
			names[o.name] = true
		}
		all = append(all, some...)
	}
	return all
}

func parseOdd(text string) ([]*oddity, error) {
	var all []*oddity
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || strings.HasPrefix(line, "#"):
		case line == trimmed:
			o, err := newOddity(trimmed)
			if err != nil {
				return nil, err
			}
			all = append(all, o)
		case len(all) == 0:
			return nil, fmt.Errorf("line %d: no name yet", i+1)
		default:
			if err := all[len(all)-1].add(trimmed); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		}
	}
	for _, o := range all {
		o.complete()
	}
	return all, nil
}

func newOddity(title string) (*oddity, error) {
	name, flags, _ := strings.Cut(strings.TrimSuffix(title, "]"), " [")
	o := &oddity{name: name, raw: neverRaw}
	for flag := range strings.SplitSeq(flags, ", ") {
		switch flag {
		case "":
		case "raw":
			o.raw = 0
		case "at once":
			o.atOnce = true
		case "passed":
			o.passed = true
		case "private":
			o.private = true
		default:
			return nil, fmt.Errorf("%s: unknown word %q", name, flag)
		}
	}
	return o, nil
}

// add reads one line of a conversation.
func (o *oddity) add(line string) error {
	sign, rest, _ := strings.Cut(line, " ")
	switch sign {
	case ">", "<", "~":
		text, err := unescape(rest)
		if err != nil {
			return err
		}
		o.say(sign, text)
		return nil
	case "!":
		return o.direct(rest)
	}
	return fmt.Errorf("unknown sign %q", sign)
}

func (o *oddity) say(sign, text string) {
	if n := len(o.turns); n == 0 || sign == "~" || sign == ">" && o.turns[n-1].closed() {
		o.turns = append(o.turns, turn{})
	}
	last := &o.turns[len(o.turns)-1]
	switch sign {
	case ">":
		last.say += text
	case "<":
		last.answer += text
	case "~":
		last.empty += text
	}
}

// closed reports whether what the client says next is another turn.
func (t *turn) closed() bool { return t.answer != "" || t.clientEnds }

func (o *oddity) direct(what string) error {
	switch what {
	case "raw":
		o.raw = len(o.turns)
	case "client ends":
		o.turns[len(o.turns)-1].clientEnds = true
	case "client resets":
		o.ends = clientResets
	case "original ends":
		o.ends = originalEnds
	case "original resets":
		o.ends = originalResets
	default:
		return fmt.Errorf("unknown direction %q", what)
	}
	return nil
}

// complete gives a conversation in which nobody answers the plain answer.
func (o *oddity) complete() {
	if o.answers() == "" && o.ends == clientEnds && !o.turns[len(o.turns)-1].clientEnds {
		o.turns[len(o.turns)-1].answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	}
}

// unescape reads Go's escapes, and {N*text} as N times text, the innermost first.
func unescape(s string) (string, error) {
	s = macros.Replace(s)
	for {
		at := repeats.FindStringSubmatchIndex(s)
		if at == nil {
			return strconv.Unquote(`"` + s + `"`)
		}
		n, err := strconv.Atoi(s[at[2]:at[3]])
		if err != nil {
			return "", fmt.Errorf("repeat: %w", err)
		}
		s = s[:at[0]] + strings.Repeat(s[at[4]:at[5]], n) + s[at[1]:]
	}
}

var repeats = regexp.MustCompile(`\{(\d+)\*([^{}]*)\}`)

package agentpod

import (
	"fmt"
	"strconv"
	"strings"
)

// fits returns an error for an agent of a version that this client cannot be expected to work with: more than one minor
// version away. What is no release, like a build from a checkout, fits everything.
func fits(agent, client string) error {
	a, okA := parseRelease(agent)
	c, okC := parseRelease(client)
	if !okA || !okC || a.major == c.major && a.minor-c.minor <= 1 && c.minor-a.minor <= 1 {
		return nil
	}
	advice := "update this client"
	if a.before(c) {
		advice = "it leaves with its last session, see `magpie sessions`; or use a client of its version until then"
	}
	return &Error{Cause: fmt.Sprintf("the agent that runs there is of version %s, this client of %s", agent, client), Advice: advice}
}

type release struct{ major, minor int }

func (r release) before(o release) bool {
	return r.major < o.major || r.major == o.major && r.minor < o.minor
}

func parseRelease(version string) (r release, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return r, false
	}
	var err error
	if r.major, err = strconv.Atoi(parts[0]); err != nil {
		return r, false
	}
	minor, _, _ := strings.Cut(parts[1], "-")
	r.minor, err = strconv.Atoi(minor)
	return r, err == nil
}

package agentpod

import (
	"fmt"
	"strconv"
	"strings"
)

// Fits returns an error for an agent of a version that this client cannot be expected to work with: more than one minor
// version away. What is no release, like a build from a checkout, fits everything.
func Fits(agent, client string) error {
	a, okA := parseRelease(agent)
	c, okC := parseRelease(client)
	if !okA || !okC || a.major == c.major && a.minor-c.minor <= 1 && c.minor-a.minor <= 1 {
		return nil
	}
	advice := "update this client, or name an image of its version by --agent-image if no agent was there yet"
	if a.before(c) {
		advice = "it leaves with its last session, see `magpie sessions`; if --agent-image or agent.image named it, leave that out"
	}
	return &Error{Cause: fmt.Sprintf("the agent there is of version %s, this client of %s", agent, client), Advice: advice}
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

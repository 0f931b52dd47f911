package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/magpie-k8s/magpie/wire"
)

// redirect is the feature without which no port can be taken.
const redirect = "redirect"

// node tells what the agent found where it stands.
func (v *visit) node(seen *wire.InspectResponse) {
	v.ok("node", strings.TrimSpace(fmt.Sprintf("%s Linux %s, agent %s", seen.Node, seen.Kernel, seen.Version)))
	if !v.takes() {
		return
	}
	for _, f := range seen.Features {
		v.tell(featureOf(f))
	}
	v.ports(seen)
}

func featureOf(f *wire.Feature) Finding {
	switch {
	case f.Present:
		return Finding{Check: "feature", Verdict: OK, Text: f.Name}
	case f.Name == redirect:
		return Finding{"feature", Fail, f.Name + ": " + f.Cause, f.Hint}
	}
	return Finding{"feature", Warn, f.Name + ": " + f.Cause, f.Hint}
}

// ports tells how each port would be taken that the original listens on.
func (v *visit) ports(seen *wire.InspectResponse) {
	var ports []uint32
	for _, l := range seen.Listeners {
		if !slices.Contains(ports, l.Port) {
			ports = append(ports, l.Port)
		}
	}
	slices.Sort(ports)
	if len(ports) == 0 {
		v.warn("ports", "nothing listens in the pod", "does the original run? A session can take ports that nobody listens on, too")
		return
	}
	way := "cannot be taken here"
	if slices.ContainsFunc(seen.Features, func(f *wire.Feature) bool { return f.Name == redirect && f.Present }) {
		way = "taken by " + redirect
	}
	for _, p := range ports {
		v.ok("ports", fmt.Sprintf("port %d: %s", p, way))
	}
}

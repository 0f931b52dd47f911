package doctor

import (
	"strings"
	"testing"
)

func TestOnlyTheLevelPrivilegedAdmitsAgents(t *testing.T) {
	for _, c := range []struct {
		level   string
		own     bool
		verdict Verdict
		hint    string
	}{
		{"", false, OK, ""},
		{"privileged", false, OK, ""},
		{"baseline", false, Fail, "--agent-namespace"},
		{"restricted", false, Fail, "--agent-namespace"},
		{"restricted", true, Fail, "kubectl label namespace dev --overwrite pod-security.kubernetes.io/enforce=privileged"},
	} {
		got := securityOf("dev", map[string]string{enforceLabel: c.level}, c.own)
		if got.Verdict != c.verdict || !strings.Contains(got.Hint, c.hint) || !strings.Contains(got.Text, "namespace dev") {
			t.Errorf("level %q: %+v", c.level, got)
		}
	}
}

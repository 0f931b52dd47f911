package agentpod

import "testing"

func TestAgentOneMinorVersionAwayFits(t *testing.T) {
	for _, v := range []struct {
		agent, client string
		fits          bool
	}{
		{"v1.2.0", "v1.2.0", true},
		{"v1.2.0", "v1.2.9", true},
		{"v1.2.0", "v1.3.0", true},
		{"v1.3.0", "v1.2.0", true},
		{"1.3.0", "v1.2.0", true},
		{"v1.2.0", "v1.4.0", false},
		{"v1.4.0-3-gabc1234", "v1.2.0", false},
		{"v2.0.0", "v1.9.0", false},
		{"v0.1.0", "v0.2.0-rc.1", true},
		{"devel", "v1.2.0", true},
		{"v1.2.0", "f0572f4-dirty", true},
		{"v1", "v3.0.0", true},
		{"", "", true},
	} {
		if err := Fits(v.agent, v.client); (err == nil) != v.fits {
			t.Errorf("agent %q with client %q: %v", v.agent, v.client, err)
		}
	}
}

func TestLabelHoldsAnyVersion(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.0": "v1.2.0", "v1.2.0+dirty": "v1.2.0-dirty", "f0572f4-": "f0572f4", "(devel)": "devel",
	} {
		if got := labelValue(version); got != want {
			t.Errorf("%q becomes %q; want %q", version, got, want)
		}
	}
}

package nearest

import "testing"

func TestWordIsTheOneThatWasMeant(t *testing.T) {
	words := []string{"steal", "target", "http-header-filter", "http-path-filter", "verbose", "netns", "pid"}
	for typed, want := range map[string]string{
		"steel": "steal", "tagret": "target", "http-heder-filter": "http-header-filter", "http-pth-filter": "http-path-filter",
		"netsn": "netns", "nets": "netns", "pdi": "pid", "steal": "steal", "planet": "", "b": "",
		"xyzzy": "", "v": "", "": "", "deploy": "",
	} {
		if got := Word(typed, words); got != want {
			t.Errorf("Word(%q) = %q, want %q", typed, got, want)
		}
	}
}

package config

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/magpie-k8s/magpie/client/agentpod"
)

// TestThePageOnSettingsHasEveryKeyAndIsRead keeps docs/SETTINGS.md and what is read the same.
func TestThePageOnSettingsHasEveryKeyAndIsRead(t *testing.T) {
	page, err := os.ReadFile("../../docs/SETTINGS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	if _, err := parse([]byte(text)); err != nil {
		t.Error(err)
	}
	for key := range fieldsOf(reflect.TypeFor[agentpod.Settings]()) {
		if !strings.Contains(text, "\n  "+key+":") {
			t.Errorf("docs/SETTINGS.md does not tell of agent.%s", key)
		}
	}
}

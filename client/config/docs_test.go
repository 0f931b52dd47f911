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
	examples := strings.Split(string(page), "```yaml\n")[1:]
	for i, text := range examples {
		if examples[i], _, _ = strings.Cut(text, "```"); strings.HasPrefix(text, "apiVersion:") {
			continue // for Kubernetes
		}
		if _, err := parse([]byte(examples[i])); err != nil {
			t.Errorf("example %d: %v", i, err)
		}
	}
	all := strings.Join(examples, "")
	for key := range fieldsOf(reflect.TypeFor[agentpod.Settings]()) {
		if !strings.Contains(all, "\n  "+key+":") {
			t.Errorf("docs/SETTINGS.md does not tell of agent.%s", key)
		}
	}
	for _, section := range []reflect.Type{reflect.TypeFor[TLS](), reflect.TypeFor[TLSClients](), reflect.TypeFor[TLSOriginal]()} {
		for key := range fieldsOf(section) {
			if !strings.Contains(all, key+":") {
				t.Errorf("docs/SETTINGS.md does not tell of %s of tls", key)
			}
		}
	}
}

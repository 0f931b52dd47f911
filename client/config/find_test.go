package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheNearestFileUpwardsIsFoundButNoneAboveHome(t *testing.T) {
	above := t.TempDir()
	home := filepath.Join(above, "me")
	t.Setenv("HOME", home)
	deep := filepath.Join(home, "project", "cmd", "server")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, above, ".magpie/magpie.yaml", "")
	mustFind(t, deep, "")
	ofHome := mustWrite(t, home, ".magpie/magpie.json", "{}")
	mustFind(t, deep, ofHome)
	mustFind(t, home, ofHome)
	ofProject := mustWrite(t, filepath.Join(home, "project"), ".magpie/magpie.yml", "")
	mustFind(t, deep, ofProject)
	mustWrite(t, filepath.Join(home, "project"), ".magpie/magpie.yaml", "")
	if _, err := Find(deep); err == nil {
		t.Error("two files in one folder: no error")
	}
}

func mustFind(tb testing.TB, folder, want string) {
	tb.Helper()
	if got, err := Find(folder); err != nil || got != want {
		tb.Errorf("from %s: %q, %v; want %q", folder, got, err, want)
	}
}

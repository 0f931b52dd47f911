package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// maxImage is what a node should have to pull at most.
const maxImage = 20 << 20

func TestImageHoldsTheAgentAndIsSmall(t *testing.T) {
	program := mustBuild(t)
	archive := mustWrite(t, program, "magpie.test/magpie-agent:test")
	if len(archive) > maxImage {
		t.Errorf("the image has %d bytes; want at most %d", len(archive), maxImage)
	}
	files := mustUnpack(t, archive)
	var list []manifest
	mustUnmarshal(t, files["manifest.json"], &list)
	if len(list) != 1 || list[0].RepoTags[0] != "magpie.test/magpie-agent:test" {
		t.Fatalf("manifest %+v", list)
	}
	var c configuration
	config := files[list[0].Config]
	mustUnmarshal(t, config, &c)
	layer := files[list[0].Layers[0]]
	if c.RootFS.DiffIDs[0] != "sha256:"+digest(layer) || list[0].Config != digest(config)+".json" {
		t.Errorf("digests do not fit: %+v, %+v", c.RootFS, list[0])
	}
	if c.Architecture != runtime.GOARCH || c.Config.User != "0" || c.Config.Entrypoint[0] != "/magpie-agent" {
		t.Errorf("configuration %+v", c)
	}
	inside := mustUnpack(t, layer)
	if !bytes.Equal(inside["magpie-agent"], program) {
		t.Error("the layer holds another program")
	}
	if _, ok := inside["run/magpie/"]; !ok {
		t.Error("no /run/magpie in the layer")
	}
}

func TestImageIsTheSameEachTime(t *testing.T) {
	program := mustRead(t, "/proc/self/exe")
	if _, err := architecture(program); err != nil {
		program = mustBuild(t) // tests with -race are not static
	}
	if !bytes.Equal(mustWrite(t, program, "a:b"), mustWrite(t, program, "a:b")) {
		t.Error("two images of one program differ")
	}
}

func TestOnlyAStaticProgramForLinuxBecomesAnImage(t *testing.T) {
	for name, want := range map[string]string{"/bin/sh": "not static", "archive.go": "bad magic number"} {
		if err := write(io.Discard, "agent", mustRead(t, name), "a:b"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("image of %s: %v; want %s", name, err, want)
		}
	}
}

func TestUsage(t *testing.T) {
	var said strings.Builder
	if err := run([]string{"-t", "a:b", "agent"}, &said); err == nil || !strings.Contains(said.String(), "usage: go run ./deploy/image -o FILE") {
		t.Errorf("%v, %q", err, said.String())
	}
}

// mustBuild builds the agent as `make build` does.
func mustBuild(tb testing.TB) []byte {
	tb.Helper()
	out := filepath.Join(tb.TempDir(), "magpie-agent")
	build := exec.CommandContext(tb.Context(), "go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o", out, "../../cmd/magpie-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build agent: %v\n%s", err, said)
	}
	return mustRead(tb, out)
}

func mustRead(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func mustWrite(tb testing.TB, program []byte, tag string) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := write(&b, "magpie-agent", program, tag); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func mustUnpack(tb testing.TB, archive []byte) map[string][]byte {
	tb.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			tb.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			tb.Fatal(err)
		}
	}
}

func mustUnmarshal(tb testing.TB, b []byte, v any) {
	tb.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		tb.Fatalf("%s: %v", b, err)
	}
}

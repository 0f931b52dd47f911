package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func mustHaveImage(tb testing.TB) Image {
	tb.Helper()
	program := filepath.Join(tb.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!"), 0o755); err != nil {
		tb.Fatal(err)
	}
	return Image{
		Name: "magpie.test/x:1", Entrypoint: []string{"/usr/bin/program"}, User: "1:2",
		Entries: []Entry{{Path: "/usr/bin/program", Source: program}, {Path: "/bin/short", Link: "/usr/bin/program"}},
	}
}

func TestWriteMakesADockerArchive(t *testing.T) {
	i := mustHaveImage(t)
	file := filepath.Join(t.TempDir(), "x.tar")
	if err := i.Write(file); err != nil {
		t.Fatal(err)
	}
	archive := mustReadTar(t, file)
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	mustDecode(t, archive["manifest.json"], &manifest)
	if len(manifest) != 1 || !slices.Equal(manifest[0].RepoTags, []string{i.Name}) || len(manifest[0].Layers) != 1 {
		t.Fatalf("manifest is %s", archive["manifest.json"])
	}
	var config struct {
		Config struct {
			User       string
			Entrypoint []string
		}
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	mustDecode(t, archive[manifest[0].Config], &config)
	if config.Config.User != i.User || !slices.Equal(config.Config.Entrypoint, i.Entrypoint) {
		t.Errorf("config is %s", archive[manifest[0].Config])
	}
	layer := archive[manifest[0].Layers[0]]
	if want := "sha256:" + digest(layer); !slices.Equal(config.Rootfs.DiffIDs, []string{want}) {
		t.Errorf("config names layers %v, want %s", config.Rootfs.DiffIDs, want)
	}
	if got, want := names(t, layer), []string{"tmp/", "usr/", "usr/bin/", "usr/bin/program", "bin/", "bin/short"}; !slices.Equal(got, want) {
		t.Errorf("the layer has %v, want %v", got, want)
	}
}

func TestTheSameContentGivesTheSameBytes(t *testing.T) {
	i := mustHaveImage(t)
	one, two := filepath.Join(t.TempDir(), "1"), filepath.Join(t.TempDir(), "2")
	if err := errors.Join(i.Write(one), i.Write(two)); err != nil {
		t.Fatal(err)
	}
	first, _ := os.ReadFile(one)
	second, _ := os.ReadFile(two)
	if !bytes.Equal(first, second) || len(first) == 0 {
		t.Error("two archives of one image differ")
	}
}

func TestAFileThatIsMissingLeavesNoArchive(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.tar")
	err := Image{Name: "x:1", Entries: []Entry{{Path: "/x", Source: "/does/not/exist"}}}.Write(file)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Write: %v, want a file that does not exist", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is an archive: %v", err)
	}
}

func mustReadTar(tb testing.TB, file string) map[string][]byte {
	tb.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			tb.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			tb.Fatal(err)
		}
	}
}

func names(tb testing.TB, layer []byte) []string {
	tb.Helper()
	var all []string
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, header.Name)
	}
}

func mustDecode(tb testing.TB, content []byte, value any) {
	tb.Helper()
	if err := json.Unmarshal(content, value); err != nil {
		tb.Fatalf("%v: %s", err, content)
	}
}

// Package image writes container images as docker-archive files, which `ctr images import` and every container tool read. An image is one
// layer of static files; nothing is ever run to build one, and the same content gives the same bytes.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"time"
)

// Image says what is in an image and how it starts. The zero value is an empty image without a name.
type Image struct {
	Name       string   // with its tag: "magpie.test/tools:1"
	Entrypoint []string // nil: the command alone
	Command    []string
	User       string // "uid:gid"; empty is root
	Entries    []Entry
}

// Entry is a file or a symbolic link; the folders above it are made.
type Entry struct {
	Path   string // in the image
	Source string // the file on this machine whose content and mode it gets, read by Write
	Link   string // or what the link points to
}

// Write makes the archive at file. An archive that it could not finish is not left behind.
func (i Image) Write(file string) error {
	layer, err := i.layer()
	if err != nil {
		return fmt.Errorf("write image %s: %w", i.Name, err)
	}
	config, err := json.Marshal(i.config(digest(layer)))
	if err != nil {
		return fmt.Errorf("write image %s: %w", i.Name, err)
	}
	configName, layerName := digest(config)+".json", digest(layer)+".tar"
	manifest, err := json.Marshal([]any{map[string]any{"Config": configName, "RepoTags": []string{i.Name}, "Layers": []string{layerName}}})
	if err != nil {
		return fmt.Errorf("write image %s: %w", i.Name, err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, part := range []struct {
		name    string
		content []byte
	}{{configName, config}, {layerName, layer}, {"manifest.json", manifest}} {
		if err := writeFile(w, part.name, 0o644, int64(len(part.content)), bytes.NewReader(part.content)); err != nil {
			return fmt.Errorf("write image %s: %w", i.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("write image %s: %w", i.Name, err)
	}
	return replace(file, archive.Bytes())
}

// layer is the tar of the file system. /tmp is there because programs expect it and a layer without a folder is none.
func (i Image) layer() ([]byte, error) {
	var layer bytes.Buffer
	l := layerWriter{Writer: tar.NewWriter(&layer), made: map[string]bool{}}
	if err := l.folder("tmp", 0o1777); err != nil {
		return nil, err
	}
	for _, e := range i.Entries {
		if err := l.entry(e); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	err := l.Close()
	return layer.Bytes(), err
}

type layerWriter struct {
	*tar.Writer
	made map[string]bool
}

func (l layerWriter) entry(e Entry) error {
	name := strings.TrimPrefix(path.Clean(e.Path), "/")
	if err := l.folder(path.Dir(name), 0o755); err != nil {
		return err
	}
	if e.Link != "" {
		return l.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: e.Link, Mode: 0o777, ModTime: epoch()})
	}
	f, err := os.Open(e.Source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return writeFile(l.Writer, name, int64(info.Mode().Perm()), info.Size(), f)
}

func (l layerWriter) folder(name string, mode int64) error {
	if name == "." || l.made[name] {
		return nil
	}
	if err := l.folder(path.Dir(name), 0o755); err != nil {
		return err
	}
	l.made[name] = true
	return l.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: epoch()})
}

func (i Image) config(layerDigest string) any {
	return map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": epoch(),
		"config": map[string]any{
			"Entrypoint": i.Entrypoint, "Cmd": i.Command, "User": i.User,
			"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + layerDigest}},
		"history": []any{map[string]any{"created": epoch()}},
	}
}

func writeFile(w *tar.Writer, name string, mode, size int64, content io.Reader) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size, ModTime: epoch()}); err != nil {
		return err
	}
	_, err := io.Copy(w, content)
	return err
}

// replace writes beside the file and renames, so that whoever reads it never sees a half.
func replace(file string, content []byte) error {
	if err := os.WriteFile(file+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// epoch is when every file was made, so that no clock gets into a digest.
func epoch() time.Time { return time.Unix(0, 0).UTC() }

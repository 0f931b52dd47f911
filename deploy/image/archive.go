package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// What an image holds beside the program: where an ephemeral agent has its socket.
var folders = []string{"run/", "run/magpie/"}

// epoch is the time of everything, so that nothing differs from one build to the next.
var epoch = time.Unix(0, 0).UTC()

// An entry is a file of an archive.
type entry struct {
	name string
	data []byte
	mode int64
}

// write writes the image in docker's archive format: one layer, its configuration, and a manifest that names both.
func write(w io.Writer, name string, program []byte, tag string) error {
	arch, err := architecture(program)
	if err != nil {
		return err
	}
	layer, err := pack(folders, []entry{{name, program, 0o755}})
	if err != nil {
		return fmt.Errorf("pack layer: %w", err)
	}
	config, err := json.Marshal(configuration{
		Architecture: arch, OS: "linux", Created: epoch,
		Config:  execution{User: "0", Entrypoint: []string{"/" + name}, WorkingDir: "/"},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{"sha256:" + digest(layer)}},
		History: []history{{Created: epoch, CreatedBy: "deploy/image"}},
	})
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	m := manifest{Config: digest(config) + ".json", RepoTags: []string{tag}, Layers: []string{digest(layer) + ".tar"}}
	list, err := json.Marshal([]manifest{m})
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	archive, err := pack(nil, []entry{{m.Config, config, 0o644}, {m.Layers[0], layer, 0o644}, {"manifest.json", list, 0o644}})
	if err != nil {
		return fmt.Errorf("pack image: %w", err)
	}
	_, err = w.Write(archive)
	return err
}

// The documents of an image: see the OCI image specification's config.md, and `docker save` for the manifest.
type (
	configuration struct {
		Architecture string    `json:"architecture"`
		OS           string    `json:"os"`
		Created      time.Time `json:"created"`
		Config       execution `json:"config"`
		RootFS       rootFS    `json:"rootfs"`
		History      []history `json:"history"`
	}
	execution struct {
		User       string   `json:"User"`
		Entrypoint []string `json:"Entrypoint"`
		WorkingDir string   `json:"WorkingDir"`
	}
	rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	history struct {
		Created   time.Time `json:"created"`
		CreatedBy string    `json:"created_by"`
	}
	manifest struct {
		Config   string   `json:"Config"`
		RepoTags []string `json:"RepoTags"`
		Layers   []string `json:"Layers"`
	}
)

// architecture reads, out of the program itself, what it runs on. On nothing but itself it runs only if it is static.
func architecture(program []byte) (string, error) {
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return "", fmt.Errorf("read program: %w", err)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fmt.Errorf("read program: it is not static: build it with CGO_ENABLED=0")
		}
	}
	switch file.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	}
	return "", fmt.Errorf("read program: it is for %v", file.Machine)
}

func pack(folders []string, files []entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range folders {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: epoch}); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: epoch}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/template"
)

// embedded is what the machines have and the host has not (files/all, files/node), and what the API server is told first (manifests).
//
//go:embed files manifests
var embedded embed.FS

// facts is what the embedded files may ask for.
type facts struct {
	Machine                                   machine
	Machines, Nodes                           []machine
	MachineID                                 string
	HostAddress, DeveloperAddress, DNSAddress string
	PodNetwork, ServiceNetwork                string
	PauseImage, CoreDNSImage                  string
}

func factsFor(m machine) facts {
	id := sha256.Sum256([]byte(m.Name)) // two nodes with one machine ID would be one to some tools
	return facts{
		Machine: m, Machines: machines(), Nodes: nodes(), MachineID: hex.EncodeToString(id[:16]),
		HostAddress: hostAddress, DeveloperAddress: developerAddress, DNSAddress: dnsAddress,
		PodNetwork: podNetwork, ServiceNetwork: serviceNetwork,
		PauseImage: pauseImage, CoreDNSImage: corednsImage,
	}
}

// writeFiles puts the machine's files into its state folder, from where they come into its root.
func (m machine) writeFiles(keys *pki) error {
	trees := []string{"files/all"}
	if m.isNode() {
		trees = append(trees, "files/node")
	}
	for _, tree := range trees {
		if err := renderTree(tree, m.state("files"), factsFor(m)); err != nil {
			return err
		}
	}
	return keys.write(m, m.state("files"+pkiDir))
}

// renderTree writes each embedded file under dir with the facts filled in.
func renderTree(tree, dir string, f facts) error {
	return fs.WalkDir(embedded, tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(dir, name), 0o755)
		}
		text, err := embedded.ReadFile(path)
		if err != nil {
			return err
		}
		content, err := render(path, string(text), f)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), content, 0o644)
	})
}

func render(name, text string, values any) ([]byte, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"base64": base64.StdEncoding.EncodeToString}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	var out bytes.Buffer
	err = t.Execute(&out, values)
	return out.Bytes(), err
}

// Package magpie holds no code: only the test that keeps the packages apart.
package magpie

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/magpie-k8s/magpie/"

// arrows lists which packages of ours each package may import, as in the picture in docs/ARCHITECTURE.md.
// A new arrow is a design decision: change the picture and this table in one commit.
var arrows = map[string][]string{
	"cmd/magpie":        {"client", "client/*", "layer", "filters", "internal/nearest"},
	"cmd/magpie-agent":  {"agent"},
	"agent":             {"wire", "filters", "agent/*"},
	"agent/target":      {"internal/netns", "internal/nearest"},
	"agent/steal":       {"bpf", "internal/netns"},
	"agent/route":       {"filters"},
	"agent/route/h2":    {"filters"},
	"agent/handshake":   {},
	"agent/local":       {},
	"agent/older":       {"internal/netns"},
	"agent/outgoing":    {"internal/netns"},
	"agent/resolve":     {"internal/netns"},
	"client":            {"wire", "filters", "client/cluster", "client/agentpod"},
	"client/cluster":    {"internal/nearest"},
	"client/agentpod":   {"client/cluster", "wire"},
	"client/doctor":     {"client/agentpod", "client/cluster", "wire"},
	"client/config":     {"client/agentpod", "internal/nearest"},
	"deploy/image":      {},
	"layer":             {"layer/unotify"},
	"filters":           {},
	"wire":              {},
	"bpf":               {},
	"layer/unotify":     {},
	"internal/netns":    {},
	"internal/nearest":  {},
	"internal/testcert": {},
	"internal/testnet":  {"internal/netns"},
	"internal/testrun":  {},
	"bench":             {"*"},
	"bench/cluster":     {},
}

// homes lists the only packages that may import a heavy module.
var homes = map[string][]string{
	"github.com/cilium/ebpf":      {"bpf"},
	"github.com/spf13/cobra":      {"cmd/*"},
	"k8s.io/":                     {"client", "client/*", "deploy/*"},
	"github.com/hashicorp/yamux":  {"wire"},
	"github.com/containerd/ttrpc": {"wire"},
	"golang.org/x/net/http2":      {"agent/route/h2", "agent/local"},
}

type listed struct {
	ImportPath string
	Imports    []string
	Doc        string
	GoFiles    []string
}

func TestPackagesImportOnlyWhatThePictureAllows(t *testing.T) {
	for _, p := range goList(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		allowed, known := arrows[name]
		if !known && !strings.HasPrefix(name, "test/") && name != strings.TrimSuffix(module, "/") {
			t.Errorf("package %s is not in the picture", name)
		}
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, module); ok && known && !matches(allowed, ours) && !strings.HasPrefix(ours, name+"/") {
				t.Errorf("%s imports %s: not in the picture", name, ours)
			}
			for heavy, home := range homes {
				if strings.HasPrefix(imp, heavy) && !matches(home, name) {
					t.Errorf("%s imports %s: only %v may", name, imp, home)
				}
			}
		}
	}
}

func TestEachPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range goList(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func goList(tb testing.TB) []listed {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), "go", "list", "-json=ImportPath,Imports,Doc,GoFiles", "./...").Output()
	if err != nil {
		tb.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			tb.Fatal(err)
		}
		all = append(all, p)
	}
}

// matches reports whether name is in the list; an entry that ends in * stands for all that starts with the rest.
func matches(list []string, name string) bool {
	return slices.ContainsFunc(list, func(e string) bool {
		prefix, open := strings.CutSuffix(e, "*")
		return e == name || open && strings.HasPrefix(name, prefix)
	})
}

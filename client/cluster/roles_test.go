package cluster

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

const manifest = "../../deploy/rbac.yaml"

func mustRead(tb testing.TB, path string) []byte {
	tb.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return content
}

func TestTheManifestAllowsExactlyWhatIsAskedFor(t *testing.T) {
	roles := []string{RoleDeveloper, RoleEphemeral, RoleTargets, RoleAgents, RoleDoctor}
	for document := range bytes.SplitSeq(mustRead(t, manifest), []byte("\n---\n")) {
		var role rbacv1.ClusterRole // a Role has the same fields
		if err := yaml.UnmarshalStrict(document, &role); err != nil {
			t.Fatal(err)
		}
		got, want := unique(granted(role.Rules)), unique(asked(Rights(role.Name, "dev")))
		if !slices.Equal(got, want) {
			t.Errorf("%s:\nthe manifest  %v\nthe list      %v", role.Name, got, want)
		}
		roles = slices.DeleteFunc(roles, func(name string) bool { return name == role.Name })
	}
	if len(roles) > 0 {
		t.Errorf("not in the manifest: %v", roles)
	}
}

func granted(rules []rbacv1.PolicyRule) (all []string) {
	for _, rule := range rules {
		for _, name := range rule.Resources {
			resource, sub, _ := strings.Cut(name, "/")
			for _, verb := range rule.Verbs {
				all = append(all, Right{Verb: verb, Group: rule.APIGroups[0], Resource: resource, Subresource: sub}.String())
			}
		}
	}
	return all
}

func asked(rights []Right) (all []string) {
	for _, r := range rights {
		all = append(all, r.String())
	}
	return all
}

func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// users finds who needs a rule, in its comment: folder Function, Function: why.
var users = regexp.MustCompile(`(client/\w+) (\w+(?:, \w+)*):`)

func TestEachRuleNamesTheFunctionsThatNeedIt(t *testing.T) {
	lines := strings.Split(string(mustRead(t, manifest)), "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "- apiGroups") {
			continue
		}
		named := users.FindAllStringSubmatch(lines[i-1], -1)
		if len(named) == 0 {
			t.Errorf("line %d: no function is named above", i+1)
		}
		for _, m := range named {
			for function := range strings.SplitSeq(m[2], ", ") {
				if !defined(t, m[1], function) {
					t.Errorf("line %d: there is no function %s in %s", i, function, m[1])
				}
			}
		}
	}
}

func defined(tb testing.TB, folder, function string) bool {
	tb.Helper()
	files, err := filepath.Glob("../../" + folder + "/*.go")
	if err != nil {
		tb.Fatal(err)
	}
	definition := regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + function + `\(`)
	return slices.ContainsFunc(files, func(path string) bool { return definition.Match(mustRead(tb, path)) })
}

func TestNeededFollowsWhereAgentsAre(t *testing.T) {
	for _, c := range []struct {
		agents    string
		ephemeral bool
		job, exec string // the namespace of each right, "-" if it is not needed
	}{
		{"", false, "dev", "-"}, {"dev", false, "dev", "-"}, {"tools", false, "tools", "-"}, {"", true, "-", "dev"}, {"tools", true, "-", "dev"},
	} {
		where := map[string]string{"create jobs.batch": "-", "create pods/exec": "-"}
		for _, r := range Needed("dev", c.agents, c.ephemeral) {
			if _, watched := where[r.String()]; watched {
				where[r.String()] = r.Namespace
			}
		}
		if where["create jobs.batch"] != c.job || where["create pods/exec"] != c.exec {
			t.Errorf("agents %q, ephemeral %v: %v", c.agents, c.ephemeral, where)
		}
	}
}

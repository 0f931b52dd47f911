package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// kubeconfig names two contexts; the second has no namespace.
const kubeconfig = `
apiVersion: v1
kind: Config
clusters:
- {name: shop, cluster: {server: "https://127.0.0.1:1"}}
users:
- {name: alice, user: {token: t}}
contexts:
- {name: shop-dev, context: {cluster: shop, user: alice, namespace: dev}}
- {name: shop-prod, context: {cluster: shop, user: alice}}
current-context: shop-dev
`

// mustFlags parses a command line as kubectl would, with $KUBECONFIG naming a file of that content; "" names a file that does not exist.
func mustFlags(tb testing.TB, config string, args ...string) *Flags {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "config")
	if config != "" {
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	if t, ok := tb.(*testing.T); ok {
		t.Setenv("KUBECONFIG", path)
		t.Setenv("KUBERNETES_SERVICE_HOST", "")
	}
	f, set := NewFlags(), pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.Register(set)
	if err := set.Parse(args); err != nil {
		tb.Fatal(err)
	}
	return f
}

func TestFlagsMeanWhatTheyMeanToKubectl(t *testing.T) {
	for _, c := range []struct {
		args                     []string
		context, namespace, host string
	}{
		{nil, "shop-dev", "dev", "https://127.0.0.1:1"},
		{[]string{"-n", "test"}, "shop-dev", "test", "https://127.0.0.1:1"},
		{[]string{"--context", "shop-prod"}, "shop-prod", "default", "https://127.0.0.1:1"},
		{[]string{"--server", "https://127.0.0.1:2"}, "shop-dev", "dev", "https://127.0.0.1:2"},
	} {
		got, err := Connect(mustFlags(t, kubeconfig, c.args...))
		if err != nil {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		if got.Context() != c.context || got.Namespace() != c.namespace || got.Config().Host != c.host {
			t.Errorf("%v: context %q namespace %q host %q, want %+v", c.args, got.Context(), got.Namespace(), got.Config().Host, c)
		}
	}
	got, err := Connect(mustFlags(t, kubeconfig, "--as", "bob", "--as-group", "g", "--as-uid", "7"))
	if err != nil || got.Config().Impersonate.UserName != "bob" || got.Config().Impersonate.Groups[0] != "g" || got.Config().Impersonate.UID != "7" {
		t.Errorf("--as bob: %+v, %v", got.Config().Impersonate, err)
	}
}

func TestAKubeconfigThatDoesNotDoSaysWhy(t *testing.T) {
	broken := "apiVersion: v1\nkind: Config\nclusters: nonsense\n"
	homeless := strings.Replace(kubeconfig, "current-context: shop-dev", "", 1)
	for _, c := range []struct {
		what, config string
		args         []string
		want, hint   string
	}{
		{"none", "", nil, "there is no kubeconfig at ", "--kubeconfig or $KUBECONFIG"},
		{"named, not there", "", []string{"--kubeconfig", "/nonexistent/config"}, "read kubeconfig /nonexistent/config: file does not exist", ""},
		{"unreadable", broken, nil, "read kubeconfig: ", "kubectl config view"},
		{"wrong context", kubeconfig, []string{"--context", "shop-de"}, `there is no context "shop-de"`, "did you mean shop-dev? there are: shop-dev, shop-prod"},
		{"wrong cluster", kubeconfig, []string{"--cluster", "moon"}, `there is no cluster "moon"`, "there are: shop"},
		{"wrong user", kubeconfig, []string{"--user", "alicia"}, `there is no user "alicia"`, "did you mean alice?"},
		{"no current context", homeless, nil, "no context is current", "shop-dev, shop-prod"},
	} {
		_, err := Connect(mustFlags(t, c.config, c.args...))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Cause, c.want) || !strings.Contains(e.Hint(), c.hint) {
			t.Errorf("%s: %v (hint %q); want %q and %q", c.what, err, e.Hint(), c.want, c.hint)
		}
	}
	_, err := Connect(mustFlags(t, ""))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no kubeconfig: %v is not fs.ErrNotExist", err)
	}
}

func TestContextsAreCompleted(t *testing.T) {
	if got := strings.Join(mustFlags(t, kubeconfig).Contexts(), " "); got != "shop-dev shop-prod" {
		t.Errorf("contexts: %q", got)
	}
	if got := mustFlags(t, "").Contexts(); len(got) != 0 {
		t.Errorf("contexts of no kubeconfig: %q", got)
	}
}

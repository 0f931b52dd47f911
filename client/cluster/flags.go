package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/magpie-k8s/magpie/internal/nearest"
)

// Flags are kubectl's own: --kubeconfig, --context, -n/--namespace, --as and the rest, with kubectl's meaning and its environment.
type Flags struct {
	kubectl *genericclioptions.ConfigFlags
}

// NewFlags returns flags that none was given of.
func NewFlags() *Flags {
	k := genericclioptions.NewConfigFlags(true)
	k.CacheDir, k.DisableCompression = nil, nil // nothing of ours is cached, or large
	return &Flags{k}
}

// Register adds the flags to a command's.
func (f *Flags) Register(set *pflag.FlagSet) { f.kubectl.AddFlags(set) }

// Contexts lists the names of the kubeconfig's contexts, for completion.
func (f *Flags) Contexts() []string {
	raw, err := f.kubectl.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(raw.Contexts))
}

func (f *Flags) restConfig() (*rest.Config, error) {
	raw, err := f.kubectl.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil, f.unreadable(err)
	}
	if err := f.check(raw); err != nil {
		return nil, err
	}
	config, err := f.kubectl.ToRESTConfig()
	if err != nil {
		return nil, f.unreadable(err)
	}
	return config, nil
}

// check finds, before client-go's words do, what is named but is not there.
func (f *Flags) check(raw api.Config) error {
	empty := len(raw.Clusters) == 0 && len(raw.Contexts) == 0
	if empty && *f.kubectl.APIServer == "" && !inPod() {
		return &Error{Cause: "find a cluster: there is no kubeconfig at " + strings.Join(f.paths(), ", "),
			Advice: "name one with --kubeconfig or $KUBECONFIG; does `kubectl get pods` work?", Err: fs.ErrNotExist}
	}
	context := f.contextOf(raw)
	if _, ok := raw.Contexts[context]; context != "" && !ok {
		return missing("context", context, slices.Sorted(maps.Keys(raw.Contexts)))
	}
	if name := *f.kubectl.ClusterName; name != "" && raw.Clusters[name] == nil {
		return missing("cluster", name, slices.Sorted(maps.Keys(raw.Clusters)))
	}
	if name := *f.kubectl.AuthInfoName; name != "" && raw.AuthInfos[name] == nil {
		return missing("user", name, slices.Sorted(maps.Keys(raw.AuthInfos)))
	}
	if context == "" && !empty && *f.kubectl.ClusterName == "" && *f.kubectl.APIServer == "" && !inPod() {
		return &Error{Cause: "read kubeconfig: no context is current",
			Advice: "name one with --context: " + some(slices.Sorted(maps.Keys(raw.Contexts)))}
	}
	return nil
}

func missing(what, name string, there []string) error {
	advice := "there are: " + some(there)
	if near := nearest.Word(name, there); near != "" {
		advice = fmt.Sprintf("did you mean %s? %s", near, advice)
	}
	if len(there) == 0 {
		advice = fmt.Sprintf("the kubeconfig has no %ss; `kubectl config view` shows it", what)
	}
	return &Error{Cause: fmt.Sprintf("read kubeconfig: there is no %s %q", what, name), Advice: advice, Err: fs.ErrNotExist}
}

func (f *Flags) unreadable(err error) error {
	if errors.Is(err, fs.ErrNotExist) && *f.kubectl.KubeConfig != "" {
		return &Error{Cause: fmt.Sprintf("read kubeconfig %s: %v", *f.kubectl.KubeConfig, fs.ErrNotExist), Advice: "does the path hold?", Err: err}
	}
	return &Error{Cause: fmt.Sprintf("read kubeconfig: %v", err), Advice: "`kubectl config view` shows what kubectl makes of it", Err: err}
}

// context is the name of the context in use.
func (f *Flags) context() string {
	raw, err := f.kubectl.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return ""
	}
	return f.contextOf(raw)
}

func (f *Flags) contextOf(raw api.Config) string {
	if name := *f.kubectl.Context; name != "" {
		return name
	}
	return raw.CurrentContext
}

// paths are the files that kubectl would read.
func (f *Flags) paths() []string {
	return clientcmd.NewDefaultClientConfigLoadingRules().GetLoadingPrecedence()
}

// inPod reports whether Kubernetes runs us: then no kubeconfig is needed.
func inPod() bool {
	_, err := os.Stat("/var/run/secrets/kubernetes.io/serviceaccount/token")
	return err == nil && os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}

package cluster

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/magpie-k8s/magpie/internal/nearest"
)

// The kinds of targets, by the word that Target.Kind has for each.
const (
	KindPod         = "pod"
	KindDeployment  = "deploy"
	KindStatefulSet = "sts"
	KindReplicaSet  = "rs"
	KindDaemonSet   = "ds"
	KindJob         = "job"
	KindCronJob     = "cronjob"
	KindRollout     = "rollout"
	KindService     = "svc"
	KindLabel       = "label" // all pods with these labels
	KindNone        = "none"  // no pod: a session with the cluster's network and names
)

// words lists what kubectl takes for each kind: short, singular, plural, the kind itself; and where the API has it.
var words = []word{
	{KindPod, resource("", "v1", "pods"), []string{"po", "pods"}},
	{KindDeployment, resource("apps", "v1", "deployments"), []string{"deployment", "deployments"}},
	{KindStatefulSet, resource("apps", "v1", "statefulsets"), []string{"statefulset", "statefulsets"}},
	{KindReplicaSet, resource("apps", "v1", "replicasets"), []string{"replicaset", "replicasets"}},
	{KindDaemonSet, resource("apps", "v1", "daemonsets"), []string{"daemonset", "daemonsets"}},
	{KindJob, resource("batch", "v1", "jobs"), []string{"jobs"}},
	{KindCronJob, resource("batch", "v1", "cronjobs"), []string{"cj", "cronjobs"}},
	{KindRollout, resource("argoproj.io", "v1alpha1", "rollouts"), []string{"ro", "rollouts"}},
	{KindService, resource("", "v1", "services"), []string{"service", "services"}},
	{KindLabel, schema.GroupVersionResource{}, []string{"labels"}},
}

type word struct {
	kind     string
	resource schema.GroupVersionResource
	also     []string
}

func resource(group, version, name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: name}
}

// here are kinds of targets on this machine, which no cluster knows.
var here = []string{"netns", "pid", "container"}

const grammar = "a target is deploy/NAME, pod/NAME, sts, rs, ds, job, cronjob, rollout or svc/NAME, label/KEY=VALUE or none; /container/NAME may follow"

// A Target names what a session stands in for. The zero value is no target at all.
type Target struct {
	Kind      string // one of the Kind constants
	Name      string // "" for label and none
	Container string // "" for the one that kubectl would choose
	Selector  string // of a label target
}

// ParseTarget understands what `--target` takes: KIND/NAME, KIND/NAME/container/NAME, label/KEY=VALUE, none.
func ParseTarget(text string) (Target, error) {
	if text == KindNone {
		return Target{Kind: KindNone}, nil
	}
	word, rest, split := strings.Cut(text, "/")
	kind := kindOf(word)
	switch {
	case text == "":
		return Target{}, &Error{Cause: "target: none is given", Advice: grammar}
	case slices.Contains(here, word) && split:
		return Target{}, &Error{Cause: fmt.Sprintf("target %q is on this machine, not in a cluster", text), Advice: grammar}
	case !split && kind == "":
		return Target{}, &Error{Cause: fmt.Sprintf("target %q: of which kind?", text), Advice: fmt.Sprintf("say deploy/%s or pod/%[1]s; %s", text, grammar)}
	case kind == "":
		return Target{}, unknownKind(text, word, rest)
	case kind == KindNone:
		return Target{}, &Error{Cause: fmt.Sprintf("target %q: nothing can follow none", text), Advice: grammar}
	case rest == "":
		return Target{}, &Error{Cause: fmt.Sprintf("target %q: the name is missing", text), Advice: fmt.Sprintf("%s/NAME; `magpie ls` lists names", kind)}
	case kind == KindLabel:
		return parseLabel(text, rest)
	}
	return parseName(text, kind, rest)
}

func parseName(text, kind, rest string) (Target, error) {
	name, rest, split := strings.Cut(rest, "/")
	t := Target{Kind: kind, Name: name}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return Target{}, &Error{Cause: fmt.Sprintf("target %q: %q cannot be a name in Kubernetes", text, name), Advice: "a name is lower-case letters, digits, '-' and '.'; " + grammar}
	}
	if !split {
		return t, nil
	}
	word, container, _ := strings.Cut(rest, "/")
	if word != "container" {
		return Target{}, &Error{Cause: fmt.Sprintf("target %q: %q follows the name", text, rest), Advice: fmt.Sprintf("only /container/NAME can: %s/%s/container/NAME", kind, name)}
	}
	t.Container = container
	return t, t.checkContainer(text)
}

// parseLabel keeps the slashes of label names: label/app.kubernetes.io/name=ems/container/web.
func parseLabel(text, rest string) (Target, error) {
	selector, container, named := cutLast(rest, "/container/")
	parsed, err := labels.Parse(selector)
	if err != nil || parsed.Empty() {
		return Target{}, &Error{Cause: fmt.Sprintf("target %q: %q is no label selector", text, selector), Advice: "label/KEY=VALUE, or several with commas, as in `kubectl get pods -l`", Err: err}
	}
	t := Target{Kind: KindLabel, Selector: selector, Container: container}
	if !named {
		return t, nil
	}
	return t, t.checkContainer(text)
}

func (t Target) checkContainer(text string) error {
	if len(validation.IsDNS1123Label(t.Container)) > 0 {
		return &Error{Cause: fmt.Sprintf("target %q: %q cannot be a container's name", text, t.Container), Advice: "a container's name is lower-case letters, digits and '-'"}
	}
	return nil
}

// String is the canonical form, with short kinds; ParseTarget of it gives the same target.
func (t Target) String() string {
	text := t.Kind
	switch {
	case t.Kind == KindLabel:
		text += "/" + t.Selector
	case t.Name != "":
		text += "/" + t.Name
	}
	if t.Container != "" {
		text += "/container/" + t.Container
	}
	return text
}

// IsClusterTarget reports whether a cluster is to be asked for it; false for what is on this machine, as netns/shop.
func IsClusterTarget(text string) bool {
	word, _, split := strings.Cut(text, "/")
	return !split || !slices.Contains(here, word)
}

// kindOf finds the kind for a word as kubectl takes it, also with its group: deployments.apps, deployments.v1.apps. "" is none.
func kindOf(word string) string {
	word, group, qualified := strings.Cut(strings.ToLower(word), ".")
	if word == KindNone {
		return KindNone
	}
	for _, w := range words {
		if word != w.kind && !slices.Contains(w.also, word) {
			continue
		}
		if !qualified || group == w.resource.Group || strings.HasSuffix(group, "."+w.resource.Group) {
			return w.kind
		}
	}
	return ""
}

// resourceOf is where the API has targets of a kind; zero for label and none.
func resourceOf(kind string) schema.GroupVersionResource {
	for _, w := range words {
		if w.kind == kind {
			return w.resource
		}
	}
	return schema.GroupVersionResource{}
}

func unknownKind(text, word, rest string) error {
	var all []string
	for _, w := range words {
		all = append(append(all, w.kind), w.also...)
	}
	advice := grammar
	if near := nearest.Word(strings.ToLower(word), append(all, here...)); near != "" {
		advice = fmt.Sprintf("did you mean %s/%s?", near, rest)
	}
	return &Error{Cause: fmt.Sprintf("target %q: there is no kind %q", text, word), Advice: advice}
}

// cutLast is strings.Cut at the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

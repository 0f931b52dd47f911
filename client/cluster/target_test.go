package cluster

import (
	"errors"
	"strings"
	"testing"
)

func TestTargetsAreReadAsKubectlReadsThem(t *testing.T) {
	for text, want := range map[string]Target{
		"deploy/ems":                 {Kind: KindDeployment, Name: "ems"},
		"deployment/ems":             {Kind: KindDeployment, Name: "ems"},
		"deployments/ems":            {Kind: KindDeployment, Name: "ems"},
		"Deployment/ems":             {Kind: KindDeployment, Name: "ems"},
		"deployments.apps/ems":       {Kind: KindDeployment, Name: "ems"},
		"deployment.v1.apps/ems":     {Kind: KindDeployment, Name: "ems"},
		"po/ems-1":                   {Kind: KindPod, Name: "ems-1"},
		"pods/ems.x-1":               {Kind: KindPod, Name: "ems.x-1"},
		"sts/db":                     {Kind: KindStatefulSet, Name: "db"},
		"replicasets/ems-5d":         {Kind: KindReplicaSet, Name: "ems-5d"},
		"daemonset/log":              {Kind: KindDaemonSet, Name: "log"},
		"job/once":                   {Kind: KindJob, Name: "once"},
		"cj/nightly":                 {Kind: KindCronJob, Name: "nightly"},
		"rollouts.argoproj.io/shop":  {Kind: KindRollout, Name: "shop"},
		"service/ems":                {Kind: KindService, Name: "ems"},
		"deploy/ems/container/web":   {Kind: KindDeployment, Name: "ems", Container: "web"},
		"label/app=ems":              {Kind: KindLabel, Selector: "app=ems"},
		"label/app=ems,tier in (a)":  {Kind: KindLabel, Selector: "app=ems,tier in (a)"},
		"label/app.kubernetes.io/x=": {Kind: KindLabel, Selector: "app.kubernetes.io/x="},
		"label/app.kubernetes.io/name=ems/container/web": {Kind: KindLabel, Selector: "app.kubernetes.io/name=ems", Container: "web"},
		"label/container/x=1":                            {Kind: KindLabel, Selector: "container/x=1"},
		"none":                                           {Kind: KindNone},
	} {
		got, err := ParseTarget(text)
		if err != nil || got != want {
			t.Errorf("ParseTarget(%q) = %+v, %v; want %+v", text, got, err, want)
		}
		if again, err := ParseTarget(got.String()); err != nil || again != got {
			t.Errorf("ParseTarget(%q) = %+v, %v; want what String wrote, %+v", got, again, err, got)
		}
	}
}

func TestBadTargetsSayWhatIsWrongAndWhatToWrite(t *testing.T) {
	for text, want := range map[string][2]string{
		"":                         {"none is given", "deploy/NAME"},
		"ems":                      {`target "ems": of which kind?`, "deploy/ems or pod/ems"},
		"depoly/ems":               {`there is no kind "depoly"`, "did you mean deploy/ems?"},
		"deployments.batch/ems":    {`there is no kind "deployments.batch"`, ""},
		"planet/mars":              {`there is no kind "planet"`, "a target is"},
		"deploy/":                  {"the name is missing", "deploy/NAME"},
		"deploy":                   {"the name is missing", "deploy/NAME"},
		"deploy/EMS":               {"cannot be a name", "lower-case"},
		"deploy/ems/web":           {`"web" follows the name`, "deploy/ems/container/NAME"},
		"deploy/ems/container":     {"cannot be a container's name", ""},
		"deploy/ems/container/a/b": {"cannot be a container's name", ""},
		"none/x":                   {"nothing can follow none", ""},
		"label/":                   {"the name is missing", ""},
		"label/a b":                {"no label selector", "label/KEY=VALUE"},
		"netns/shop":               {"on this machine", ""},
	} {
		_, err := ParseTarget(text)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Cause, want[0]) || !strings.Contains(e.Hint(), want[1]) {
			t.Errorf("ParseTarget(%q): %v (hint %q); want %q and %q", text, err, e.Hint(), want[0], want[1])
		}
	}
}

func TestTargetsOnThisMachineAreNoneOfTheCluster(t *testing.T) {
	for text, want := range map[string]bool{
		"netns/shop": false, "pid/12": false, "container/abc": false,
		"deploy/ems": true, "none": true, "netns": true, "planet/mars": true,
	} {
		if got := IsClusterTarget(text); got != want {
			t.Errorf("IsClusterTarget(%q) = %v, want %v", text, got, want)
		}
	}
}

func FuzzTargetsThatAreReadAreWrittenTheSame(f *testing.F) {
	for _, text := range []string{"deploy/ems/container/web", "label/a=b,c in (d)/container/e", "none", "po.v1./x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := ParseTarget(text)
		if err != nil {
			return
		}
		if again, err := ParseTarget(target.String()); err != nil || again != target {
			t.Errorf("ParseTarget(%q) = %+v; and of %q = %+v, %v", text, target, target, again, err)
		}
	})
}

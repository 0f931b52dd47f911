package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const whole = `agent:
  image: registry.example/magpie-agent:1.2.0
  imagePullPolicy: Always
  imagePullSecrets: [pull]
  namespace: tools
  labels: {team: ems}
  annotations:
    example.com/any-key: any value
  priorityClassName: low
  serviceAccountName: magpie
  tolerations:
    - {key: gpu, operator: Exists, effect: NoSchedule}
  resources:
    requests: {cpu: 10m, memory: 32Mi}
  ephemeral: true
  startTimeout: 2m
  logLevel: debug
`

func TestAFileSaysHowAgentsAreStarted(t *testing.T) {
	c, err := parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	a := c.Agent
	if a.Image != "registry.example/magpie-agent:1.2.0" || a.ImagePullPolicy != "Always" || a.ImagePullSecrets[0] != "pull" || a.Namespace != "tools" ||
		a.Labels["team"] != "ems" || a.Annotations["example.com/any-key"] != "any value" || a.PriorityClassName != "low" || a.ServiceAccountName != "magpie" ||
		a.Tolerations[0].Key != "gpu" || a.Resources.Requests.Cpu().MilliValue() != 10 || !a.Ephemeral || a.StartTimeout.Duration != 2*time.Minute || a.LogLevel != "debug" {
		t.Errorf("%+v", a)
	}
}

func TestJSONIsReadToo(t *testing.T) {
	c, err := parse([]byte(`{"agent": {"image": "a:1"}}`))
	if err != nil || c.Agent.Image != "a:1" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestWhatCannotBeMeantIsAnErrorThatSaysWhere(t *testing.T) {
	for _, c := range []struct{ text, cause, hint string }{
		{"agent: {imgae: a}", `unknown key "agent.imgae"`, "did you mean image?"},
		{"agnet: {image: a}", `unknown key "agnet"`, "did you mean agent?"},
		{"target: deploy/ems", `unknown key "target"`, "the file has: agent"},
		{"agent: {zzz: 1}", `unknown key "agent.zzz"`, "agent has: annotations, ephemeral, "},
		{"agent: {Image: a}", `unknown key "agent.Image"`, "did you mean image?"},
		{"agent: {tolerations: [{key: a}, {efect: NoSchedule}]}", `unknown key "agent.tolerations[1].efect"`, "did you mean effect?"},
		{"agent: {resources: {limit: {cpu: 1}}}", `unknown key "agent.resources.limit"`, "did you mean limits?"},
		{"agent: {ephemeral: always}", "agent.ephemeral: a string stands where true or false belongs", ""},
		{"agent: {imagePullSecrets: pull}", "agent.imagePullSecrets: a string stands where a list belongs", ""},
		{"agent: [image]", "agent: a list stands where a mapping belongs", ""},
		{"agent: {image: 5}", "agent.image: a number stands where a string belongs", ""},
		{"agent: {image: a, image: b}", `"image" already set`, ""},
		{"agent: {imagePullPolicy: Sometimes}", `agent: imagePullPolicy: there is no "Sometimes"`, "Always, IfNotPresent or Never"},
		{"agent:\n\timage: a", "line 2", ""},
		{"agent: {startTimeout: soon}", "soon", ""},
	} {
		_, err := parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.cause) {
			t.Errorf("%s: %v, want %q", c.text, err, c.cause)
		}
		var hinted interface{ Hint() string }
		if c.hint != "" && (!errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), c.hint)) {
			t.Errorf("%s: hint of %v, want %q", c.text, err, c.hint)
		}
	}
}

func TestAnEmptyFileSaysNothing(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "{}", "agent:\n", "agent: {}"} {
		if c, err := parse([]byte(text)); err != nil || c.Agent.Image != "" {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
}

func TestTheEnvironmentIsStrongerThanTheFileAndANameStrongerThanBoth(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	found := mustWrite(t, home, ".magpie/magpie.yaml", "agent: {image: of-project}")
	other := mustWrite(t, home, "other.yaml", "agent: {image: of-other}")
	for _, c := range []struct{ named, envFile, envImage, want string }{
		{"", "", "", "of-project"},
		{"", other, "", "of-other"},
		{other, found, "", "of-other"},
		{"", "", "of-environment", "of-environment"},
		{other, "", "of-environment", "of-environment"},
	} {
		t.Setenv(envFile, c.envFile)
		t.Setenv(envImage, c.envImage)
		got, err := Load(c.named, home)
		if err != nil || got.Agent.Image != c.want {
			t.Errorf("%+v: %q, %v", c, got.Agent.Image, err)
		}
	}
}

func TestAFileThatIsNamedMustBeThere(t *testing.T) {
	t.Setenv(envFile, "")
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	t.Setenv("HOME", t.TempDir())
	if _, err := Load("", os.Getenv("HOME")); err != nil {
		t.Errorf("no file and none named: %v", err)
	}
}

func mustWrite(tb testing.TB, folder, name, text string) string {
	tb.Helper()
	file := filepath.Join(folder, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// Package config reads the settings of a project, .magpie/magpie.yaml, so that a team says once how its agents are to
// be started. It never guesses: a key that it does not know is an error.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/magpie-k8s/magpie/client/agentpod"
)

// The environment is stronger than a file, and flags are stronger than the environment.
const (
	envFile  = "MAGPIE_CONFIG"
	envImage = "MAGPIE_AGENT_IMAGE"
)

// maxFile bounds what is read: settings are a page, not a database.
const maxFile = 1 << 20

// A Config is what holds where magpie is run. The zero Config is that of no file and an empty environment.
type Config struct {
	Agent agentpod.Settings `json:"agent"`
	TLS   []TLS             `json:"tls"`
}

// Load returns what holds in a folder: what the file says that is called named, else the one that $MAGPIE_CONFIG
// names, else the nearest one upwards from the folder; and over it what the environment says. No file is fine,
// unless one was named.
func Load(named, folder string) (Config, error) {
	var c Config
	file, err := choose(named, folder)
	if err != nil {
		return c, err
	}
	if file != "" {
		if c, err = read(file); err != nil {
			return Config{}, err
		}
	}
	if image := os.Getenv(envImage); image != "" {
		c.Agent.Image = image
	}
	return c, nil
}

func choose(named, folder string) (string, error) {
	if named == "" {
		named = os.Getenv(envFile)
	}
	if named != "" {
		return named, nil
	}
	return Find(folder)
}

// read returns what a file says, and an error for what nobody would act on.
func read(file string) (Config, error) {
	text, err := contents(file)
	if err != nil {
		return Config{}, err
	}
	c, err := parse(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

func contents(file string) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &fault{"read settings: " + file + ": there is no such file", err, "see --config and $" + envFile}
	case err == nil && info.Size() > maxFile:
		return nil, &fault{fmt.Sprintf("read settings: %s: %d bytes are more than settings can be", file, info.Size()), fs.ErrInvalid, "is it the right file?"}
	case err != nil:
		return nil, fmt.Errorf("read settings: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return text, nil
}

// parse reads YAML or JSON, which is YAML too.
func parse(text []byte) (Config, error) {
	var c Config
	doc, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return c, err
	}
	if err := known(doc, reflect.TypeFor[Config]()); err != nil {
		return c, err
	}
	if err := json.Unmarshal(doc, &c); err != nil {
		return Config{}, wrongType(err)
	}
	if err := c.Agent.Check(); err != nil {
		return Config{}, fmt.Errorf("agent: %w", err)
	}
	return c, checkTLS(c.TLS)
}

// wrongType says in the words of the file what encoding/json says in those of Go.
func wrongType(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	if number, ok := strings.CutPrefix(wrong.Value, "number "); ok && wrong.Type.Kind() == reflect.Uint16 {
		return &fault{fmt.Sprintf("%s: %s is no port", wrong.Field, number), fs.ErrInvalid, "ports are 1 to 65535"}
	}
	there := map[string]string{"array": "a list", "object": "a mapping", "bool": "true or false"}[wrong.Value]
	if there == "" {
		there = "a " + wrong.Value // string, or number
	}
	return fmt.Errorf("%s: %s stands where %s belongs", wrong.Field, there, belongs(wrong.Type))
}

func belongs(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a mapping"
	case reflect.String:
		return "a string"
	}
	return "a number"
}

// fault is an error with a hint.
type fault struct {
	cause string
	err   error // what errors.Is finds
	hint  string
}

func (f *fault) Error() string { return f.cause }
func (f *fault) Unwrap() error { return f.err }

// Hint returns one line for the user.
func (f *fault) Hint() string { return f.hint }

package layer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"testing"

	"github.com/magpie-k8s/magpie/layer"
)

// supervisorEnv holds a supervision as JSON. It turns the test binary into what `magpie exec` is to a user: a supervisor
// without rights, in a network namespace without a route out.
const supervisorEnv = "MAGPIE_TEST_SUPERVISOR"

// supervision is what a test asks of the supervisor it starts.
type supervision struct {
	Args    []string
	Env     []string
	Dir     string
	Files   map[string][]byte
	Broker  string // socket of the test's pod
	Verbose bool

	prepare func() error // runs on the thread that starts the supervisor
}

func TestMain(m *testing.M) {
	layer.Main()
	if s := os.Getenv(supervisorEnv); s != "" {
		os.Exit(supervise(s))
	}
	code := m.Run()
	removeScratch()
	os.Exit(code)
}

func supervise(s string) int {
	var sv supervision
	if err := json.Unmarshal([]byte(s), &sv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	os.Unsetenv(supervisorEnv)
	level := slog.LevelInfo
	if sv.Verbose {
		level = slog.LevelDebug
	}
	code, err := layer.Run(context.Background(), layer.Config{
		Args: sv.Args, Env: sv.Env, Dir: sv.Dir, Files: sv.Files,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	}, brokeredPod{sv.Broker})
	switch {
	case err == nil:
		return code
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		code = 127
	case errors.Is(err, fs.ErrPermission):
		code = 126
	default:
		code = 125
	}
	fmt.Fprintln(os.Stderr, "layer:", err)
	return code
}

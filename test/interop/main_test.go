// Package interop holds the tests with programs of others that speak HTTP/2: h2spec, gRPC's interop suite, curl, nghttp,
// h2load, Node. Each is asked the same direct and through Magpie, and has to see the same. It never looks inside the programs.
package interop

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/grpclog"
)

// programs is where the built programs are.
var programs string

// serving makes this test program one of the servers in server_test.go; its arguments are KIND NAME ADDRESS[,ADDRESS...].
const serving = "MAGPIE_TEST_SERVING"

func TestMain(m *testing.M) {
	if os.Getenv(serving) != "" {
		fmt.Fprintln(os.Stderr, serve(os.Args[1], os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	grpclog.SetLoggerV2(newFatal())
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "magpie-interop-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	programs = dir
	return m.Run()
}

// build puts all that the tests run where an ordinary user may run it too.
func build(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for from, what := range map[string][]string{
		filepath.Join("..", ".."): {"./cmd/magpie", "./cmd/magpie-agent"},
		".": {
			"github.com/summerwind/h2spec/cmd/h2spec",
			"google.golang.org/grpc/interop/client", "google.golang.org/grpc/interop/server",
		},
	} {
		cmd := exec.Command("go", append([]string{"build", "-o", dir + "/"}, what...)...)
		cmd.Dir = from
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	return copySelf(filepath.Join(dir, "small"))
}

// copySelf puts this very program there: go test keeps it in a folder of ours alone.
func copySelf(to string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	from, err := os.Open(self)
	if err != nil {
		return err
	}
	defer from.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, from); err != nil {
		return err
	}
	return out.Close()
}

// program is the path of one that was built.
func program(name string) string { return filepath.Join(programs, name) }

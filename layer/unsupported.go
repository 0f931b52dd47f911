//go:build !linux || (!amd64 && !arm64)

package layer

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// Run needs Linux on amd64 or arm64.
func Run(context.Context, Config, Pod) (int, error) {
	return 0, errors.New("run a process in the pod: the layer needs Linux on amd64 or arm64")
}

// Signals are those that Run would want to know of.
func Signals() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} }

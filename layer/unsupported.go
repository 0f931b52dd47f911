//go:build !linux || (!amd64 && !arm64)

package layer

import (
	"context"
	"errors"
)

// Run needs Linux on amd64 or arm64.
func Run(context.Context, Config, Pod) (int, error) {
	return 0, errors.New("run a process in the pod: the layer needs Linux on amd64 or arm64")
}

//go:build linux && (amd64 || arm64)

package unotify

import (
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// What a call costs that is continued at once.
func BenchmarkCall(b *testing.B) {
	mustServe(b, Command{Path: "/proc/self/exe", Args: []string{"helper-pgid", strconv.Itoa(b.N), "alone"}}, []Rule{Notify(unix.SYS_GETPGID)},
		func(*Call) Verdict { return Continue() })
}

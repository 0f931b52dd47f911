package cluster

import (
	"log/slog"

	"k8s.io/klog/v2"
)

// LogTo sends what client-go has to say (warnings of the API server, an unreadable file that it went on without) to a logger, instead of to
// stderr in a format of its own. It is for the whole process, so it belongs into main, before anything else of this package.
func LogTo(to *slog.Logger) { klog.SetSlogLogger(to) }

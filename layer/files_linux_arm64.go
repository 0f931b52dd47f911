package layer

import (
	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

const sysFstatat = unix.SYS_FSTATAT

// addLegacyCalls adds nothing: this architecture has only calls that take a folder.
func addLegacyCalls(*overlay, map[int]unotify.Handler) {}

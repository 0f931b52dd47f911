package layer

import (
	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

const sysFstatat = unix.SYS_NEWFSTATAT

// addLegacyCalls adds the calls without a folder, which younger architectures have not.
func addLegacyCalls(o *overlay, calls map[int]unotify.Handler) {
	here := func(c *unotify.Call) pathArg { return pathArg{unix.AT_FDCWD, c.Args[0]} }
	calls[unix.SYS_OPEN] = func(c *unotify.Call) unotify.Verdict { return o.open(c, here(c), openHow{flags: c.Args[1]}) }
	calls[unix.SYS_CREAT] = func(c *unotify.Call) unotify.Verdict {
		return o.open(c, here(c), openHow{flags: unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC})
	}
	calls[unix.SYS_STAT] = func(c *unotify.Call) unotify.Verdict { return o.stat(c, here(c), c.Args[1]) }
	calls[unix.SYS_LSTAT] = calls[unix.SYS_STAT]
	calls[unix.SYS_ACCESS] = func(c *unotify.Call) unotify.Verdict { return o.access(c, here(c), c.Args[1]) }
	calls[unix.SYS_READLINK] = func(c *unotify.Call) unotify.Verdict { return o.readlink(c, here(c)) }
}

package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/netns"
)

// namedDir is where ip-netns(8) keeps its names.
const namedDir = "/run/netns"

// waitUnnamed returns nil when the namespace is not what its name means any more, or an error when ctx has ended.
func (t *Target) waitUnnamed(ctx context.Context) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch %s: %w", namedDir, err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	_, err = unix.InotifyAddWatch(fd, namedDir, unix.IN_DELETE|unix.IN_CREATE|unix.IN_MOVE|unix.IN_DELETE_SELF|unix.IN_UNMOUNT)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("watch %s: %w", namedDir, err)
	}
	defer context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })()
	// What it was is of no interest: any change is a reason to look. One page holds the longest event, inotify(7).
	for b := make([]byte, 4096); t.named(); {
		if _, err := events.Read(b); err != nil {
			return err
		}
	}
	return nil
}

// named reports whether the name still means the namespace. It asks without a descriptor, which may be what we lack just
// when somebody else's name comes or goes.
func (t *Target) named() bool {
	var st unix.Stat_t
	err := unix.Stat(filepath.Join(namedDir, t.alias), &st)
	return err == nil && netns.ID{Dev: st.Dev, Ino: st.Ino} == t.NS.ID()
}

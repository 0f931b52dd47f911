//go:build linux && (amd64 || arm64)

package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

// overlay puts a handful of files, such as /etc/resolv.conf, before the program in place of the host's own. Their content
// lies in sealed memory files, which go with us whatever ends us. They are as on a read-only file system: opening one to
// write fails with EROFS. Everything else, chmod or rename for instance, reaches the host's file, which an ordinary user
// cannot change.
//
// A file is found by any spelling of its name, through folders that are links too, and by the target if the name is a
// link itself. Links of other names to it lead to the host's file, and so do hard links. It is safe for concurrent use.
type overlay struct {
	byPath map[string]*overlaid
	byName map[string][]*overlaid // by the last part of the path: the one look that nearly all calls get
}

// overlaid is one file.
type overlaid struct {
	path string
	file *os.File
	dir  inode // of its folder; zero if the host has none
}

type inode struct{ dev, ino uint64 }

// newOverlay makes the files, by absolute path. The caller closes it.
func newOverlay(files map[string][]byte) (_ *overlay, err error) {
	o := &overlay{byPath: map[string]*overlaid{}, byName: map[string][]*overlaid{}}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	for name, content := range files {
		if !path.IsAbs(name) || path.Clean(name) != name || name == "/" {
			return nil, fmt.Errorf("overlay %s: not a clean absolute path", name)
		}
		f, err := memoryFile(path.Base(name), content)
		if err != nil {
			return nil, fmt.Errorf("overlay %s: %w", name, err)
		}
		o.add(name, f)
		if target, err := filepath.EvalSymlinks(name); err == nil && files[target] == nil {
			o.add(target, f)
		}
	}
	return o, nil
}

func (o *overlay) add(name string, f *os.File) {
	if o.byPath[name] != nil {
		return
	}
	e := &overlaid{path: name, file: f}
	var st unix.Stat_t
	if err := unix.Stat(path.Dir(name), &st); err == nil {
		e.dir = inode{st.Dev, st.Ino}
	}
	o.byPath[name] = e
	o.byName[path.Base(name)] = append(o.byName[path.Base(name)], e)
}

// memoryFile is a file without a name that nobody can change.
func memoryFile(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Chmod(0o444); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal memory file: %w", err)
	}
	return f, nil
}

// close lets the files go. Descriptors that the program has stay good.
func (o *overlay) close() {
	for _, e := range o.byPath {
		e.file.Close()
	}
}

// rules are the calls that calls answers; none if there is no file. Calls on an open descriptor (AT_EMPTY_PATH) are not
// trapped: the descriptor is that of the overlaid file already.
func (o *overlay) rules() []unotify.Rule {
	if len(o.byPath) == 0 {
		return nil
	}
	var rules []unotify.Rule
	for nr := range o.calls() {
		switch nr {
		case sysFstatat:
			rules = append(rules, unotify.Allow(nr, unotify.HasAny(3, unix.AT_EMPTY_PATH)), unotify.Notify(nr))
		case unix.SYS_STATX:
			rules = append(rules, unotify.Allow(nr, unotify.HasAny(2, unix.AT_EMPTY_PATH)), unotify.Notify(nr))
		default:
			rules = append(rules, unotify.Notify(nr))
		}
	}
	return rules
}

// calls maps call numbers to who answers them.
func (o *overlay) calls() map[int]unotify.Handler {
	calls := map[int]unotify.Handler{
		unix.SYS_OPENAT:     func(c *unotify.Call) unotify.Verdict { return o.open(c, at(c, 0, 1), openHow{flags: c.Args[2]}) },
		unix.SYS_OPENAT2:    o.openat2,
		sysFstatat:          func(c *unotify.Call) unotify.Verdict { return o.stat(c, at(c, 0, 1), c.Args[2]) },
		unix.SYS_STATX:      o.statx,
		unix.SYS_FACCESSAT:  func(c *unotify.Call) unotify.Verdict { return o.access(c, at(c, 0, 1), c.Args[2]) },
		unix.SYS_FACCESSAT2: func(c *unotify.Call) unotify.Verdict { return o.access(c, at(c, 0, 1), c.Args[2]) },
		unix.SYS_READLINKAT: func(c *unotify.Call) unotify.Verdict { return o.readlink(c, at(c, 0, 1)) },
	}
	addLegacyCalls(o, calls)
	return calls
}

// pathArg is where a call says that a file is.
type pathArg struct {
	dirfd int32
	path  uint64
}

func at(c *unotify.Call, dirfd, path int) pathArg { return pathArg{int32(c.Args[dirfd]), c.Args[path]} }

// find is the overlaid file that a call means; nil: none. It costs most callers one read of their memory.
func (o *overlay) find(c *unotify.Call, p pathArg) *overlaid {
	name, err := c.ReadString(p.path, unix.PathMax)
	if err != nil {
		return nil
	}
	namesakes := o.byName[name[strings.LastIndexByte(name, '/')+1:]]
	if namesakes == nil {
		return nil
	}
	if e := o.byPath[name]; e != nil {
		return e
	}
	// The folder decides, whatever it is called: the kernel follows its links and dots for us.
	var st unix.Stat_t
	if err := unix.Stat(folder(c, p.dirfd, name), &st); err != nil {
		return nil
	}
	for _, e := range namesakes {
		if e.dir == (inode{st.Dev, st.Ino}) {
			return e
		}
	}
	return nil
}

// folder is our path of the folder of the name, as the caller sees it.
func folder(c *unotify.Call, dirfd int32, name string) string {
	dir := name[:strings.LastIndexByte(name, '/')+1]
	switch {
	case strings.HasPrefix(dir, "/"):
		return fmt.Sprintf("/proc/%d/root%s", c.TID, dir)
	case dirfd == unix.AT_FDCWD:
		return fmt.Sprintf("/proc/%d/cwd/%s", c.TID, dir)
	default:
		return fmt.Sprintf("/proc/%d/fd/%d/%s", c.TID, dirfd, dir)
	}
}

// openHow is struct open_how.
type openHow struct{ flags, mode, resolve uint64 }

// open answers open(2) and its kin.
func (o *overlay) open(c *unotify.Call, p pathArg, how openHow) unotify.Verdict {
	e := o.find(c, p)
	if e == nil {
		return unotify.Continue()
	}
	flags := int(int32(how.flags))
	switch {
	case flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL:
		return unotify.Fail(unix.EEXIST)
	case flags&unix.O_DIRECTORY != 0:
		return unotify.Fail(unix.ENOTDIR)
	case flags&unix.O_PATH == 0 && (flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0):
		return unotify.Fail(unix.EROFS)
	}
	// An open of its own: the position of a duplicate would be everybody's.
	keep := flags & (unix.O_PATH | unix.O_NONBLOCK | unix.O_NOATIME)
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", e.file.Fd()), keep|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return unotify.Fail(errnoOf(err))
	}
	defer unix.Close(fd)
	// If a signal takes the call away nothing is lost: the restarted call opens anew.
	c.Answer(unotify.AddFD(fd, flags&unix.O_CLOEXEC != 0))
	return unotify.Later()
}

func (o *overlay) openat2(c *unotify.Call) unotify.Verdict {
	var b [unsafe.Sizeof(openHow{})]byte
	if err := c.ReadMem(c.Args[2], b[:min(c.Args[3], uint64(len(b)))]); err != nil {
		return unotify.Continue()
	}
	how := openHow{binary.NativeEndian.Uint64(b[0:]), binary.NativeEndian.Uint64(b[8:]), binary.NativeEndian.Uint64(b[16:])}
	if how.resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0 {
		// A program that keeps itself inside a folder finds the file there by a plain name, or not at all.
		if name, err := c.ReadString(c.Args[1], unix.PathMax); err != nil || strings.HasPrefix(name, "/") || strings.Contains(name, "..") {
			return unotify.Continue()
		}
	}
	return o.open(c, at(c, 0, 1), how)
}

// stat answers stat(2) and its kin: the file is never a link.
func (o *overlay) stat(c *unotify.Call, p pathArg, to uint64) unotify.Verdict {
	e := o.find(c, p)
	if e == nil {
		return unotify.Continue()
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(e.file.Fd()), &st); err != nil {
		return unotify.Fail(errnoOf(err))
	}
	return written(c, to, (*[unsafe.Sizeof(st)]byte)(unsafe.Pointer(&st))[:])
}

func (o *overlay) statx(c *unotify.Call) unotify.Verdict {
	e := o.find(c, at(c, 0, 1))
	if e == nil {
		return unotify.Continue()
	}
	var st unix.Statx_t
	if err := unix.Statx(int(e.file.Fd()), "", unix.AT_EMPTY_PATH, int(uint32(c.Args[3])), &st); err != nil {
		return unotify.Fail(errnoOf(err))
	}
	return written(c, c.Args[4], (*[unsafe.Sizeof(st)]byte)(unsafe.Pointer(&st))[:])
}

func written(c *unotify.Call, to uint64, b []byte) unotify.Verdict {
	if err := c.WriteMem(to, b); err != nil {
		return unotify.Fail(unix.EFAULT)
	}
	return unotify.Return(0)
}

// access answers access(2) and its kin: everybody may read, nobody may write or execute.
func (o *overlay) access(c *unotify.Call, p pathArg, mode uint64) unotify.Verdict {
	switch e := o.find(c, p); {
	case e == nil:
		return unotify.Continue()
	case mode&unix.W_OK != 0:
		return unotify.Fail(unix.EROFS)
	case mode&unix.X_OK != 0:
		return unotify.Fail(unix.EACCES)
	}
	return unotify.Return(0)
}

func (o *overlay) readlink(c *unotify.Call, p pathArg) unotify.Verdict {
	if o.find(c, p) == nil {
		return unotify.Continue()
	}
	return unotify.Fail(unix.EINVAL) // not a link
}

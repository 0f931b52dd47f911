//go:build !linux

package wire

import "syscall"

// errnos maps Linux's numbers to ours, for those that connections, names and files can end with.
var errnos = map[int32]syscall.Errno{
	1: syscall.EPERM, 2: syscall.ENOENT, 3: syscall.ESRCH, 4: syscall.EINTR, 5: syscall.EIO, 9: syscall.EBADF,
	11: syscall.EAGAIN, 12: syscall.ENOMEM, 13: syscall.EACCES, 16: syscall.EBUSY, 17: syscall.EEXIST,
	20: syscall.ENOTDIR, 21: syscall.EISDIR, 22: syscall.EINVAL, 23: syscall.ENFILE, 24: syscall.EMFILE,
	28: syscall.ENOSPC, 30: syscall.EROFS, 32: syscall.EPIPE, 36: syscall.ENAMETOOLONG, 38: syscall.ENOSYS,
	39: syscall.ENOTEMPTY, 40: syscall.ELOOP, 71: syscall.EPROTO, 90: syscall.EMSGSIZE, 92: syscall.ENOPROTOOPT,
	93: syscall.EPROTONOSUPPORT, 95: syscall.EOPNOTSUPP, 97: syscall.EAFNOSUPPORT, 98: syscall.EADDRINUSE,
	99: syscall.EADDRNOTAVAIL, 100: syscall.ENETDOWN, 101: syscall.ENETUNREACH, 103: syscall.ECONNABORTED,
	104: syscall.ECONNRESET, 105: syscall.ENOBUFS, 110: syscall.ETIMEDOUT, 111: syscall.ECONNREFUSED,
	112: syscall.EHOSTDOWN, 113: syscall.EHOSTUNREACH, 116: syscall.ESTALE, 125: syscall.ECANCELED,
}

func errnoToWire(e syscall.Errno) int32 {
	for n, ours := range errnos {
		if ours == e {
			return n
		}
	}
	return 0
}

// errnoFromWire returns EIO for a number that has no name here: something went wrong, and that must not get lost.
func errnoFromWire(n int32) syscall.Errno {
	if e, ok := errnos[n]; ok || n <= 0 {
		return e
	}
	return syscall.EIO
}

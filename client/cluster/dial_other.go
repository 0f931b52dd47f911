//go:build !linux

package cluster

import "syscall"

// impatient does nothing where there is no TCP_USER_TIMEOUT.
func impatient(_, _ string, _ syscall.RawConn) error { return nil }

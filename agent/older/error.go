package older

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// An Error says in one line what cannot be done with older connections, and in another what to do.
type Error struct {
	cause string
	err   error // holds the errno
	hint  string
}

func (e *Error) Error() string { return e.cause }

// Unwrap returns what errors.Is finds the errno in.
func (e *Error) Unwrap() error { return e.err }

// Hint returns one line for the user, or "".
func (e *Error) Hint() string { return e.hint }

// explain says what was tried and why it failed.
func explain(what string, err error) error {
	why, hint := err.Error(), ""
	if errors.Is(err, unix.ENOENT) {
		why, hint = "the kernel does not tell of connections (CONFIG_INET_DIAG)", "load the kernel module tcp_diag there"
	}
	return &Error{fmt.Sprintf("%s: %s", what, why), err, hint}
}

// refused says why connections cannot be closed.
func refused(what string, err error) error {
	why, hint := "", ""
	switch {
	case errors.Is(err, unix.EPERM):
		why, hint = "this agent has not got the right (CAP_NET_ADMIN)", "start again when all other sessions there are over: then an agent comes that has it"
	case errors.Is(err, unix.EOPNOTSUPP):
		why, hint = "this kernel cannot (CONFIG_INET_DIAG_DESTROY)", "leave --flush out, and restart the clients if you can"
	default:
		return explain(what, err)
	}
	return &Error{fmt.Sprintf("%s: %s", what, why), err, hint}
}

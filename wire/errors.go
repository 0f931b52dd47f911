package wire

import (
	"context"
	"errors"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// An Error crosses the wire: one line of cause, perhaps one of hint, and an errno that errors.Is finds again on
// the other side. The zero Errno means that none fits.
type Error struct {
	Errno  syscall.Errno `json:"errno,omitempty"`
	Cause  string        `json:"cause,omitempty"`
	Advice string        `json:"hint,omitempty"` // what to do, one line; see Hint
}

func (e *Error) Error() string {
	if e.Cause == "" && e.Errno != 0 {
		return e.Errno.Error()
	}
	return e.Cause
}

// Hint returns one line that says what to do, or "".
func (e *Error) Hint() string { return e.Advice }

// Unwrap returns the errno, so that errors.Is(err, syscall.ECONNREFUSED) and errors.Is(err, fs.ErrNotExist) hold.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// AsError turns any error into one that can cross. It returns nil for nil. The hint is that of the first error in the
// chain with a method Hint() string: packages that do not know wire have hints, too.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	as := &Error{Cause: err.Error()}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		as.Advice = hinted.Hint()
	}
	switch {
	case errors.As(err, &as.Errno):
	case errors.Is(err, context.DeadlineExceeded):
		as.Errno = syscall.ETIMEDOUT
	case errors.Is(err, context.Canceled):
		as.Errno = syscall.ECANCELED
	}
	return as
}

// failure is err as it stands in a message; nil for nil.
func failure(err error) *Failure {
	e := AsError(err)
	if e == nil {
		return nil
	}
	return &Failure{Errno: errnoToWire(e.Errno), Cause: clip(e.Cause), Hint: clip(e.Advice)}
}

// asError is the reverse of failure.
func (f *Failure) asError() error {
	if f == nil {
		return nil
	}
	return &Error{Errno: errnoFromWire(f.Errno), Cause: f.Cause, Advice: f.Hint}
}

// statusOf dresses an error of a call as a ttrpc status.
func statusOf(err error) error {
	st, detailErr := status.New(codes.Unknown, err.Error()).WithDetails(failure(err))
	if detailErr != nil {
		return err
	}
	return st.Err()
}

// errorOf undresses it. What never was a Failure keeps its words and gets the nearest errno.
func errorOf(err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range st.Details() {
		if f, ok := d.(*Failure); ok {
			return f.asError()
		}
	}
	e := &Error{Cause: st.Message()}
	switch st.Code() {
	case codes.Unimplemented:
		e.Errno, e.Advice = syscall.ENOSYS, "the agent is older than this client"
	case codes.ResourceExhausted:
		e.Errno = syscall.EMSGSIZE
	case codes.DeadlineExceeded:
		e.Errno = syscall.ETIMEDOUT
	case codes.InvalidArgument, codes.Internal:
		e.Errno = syscall.EPROTO
	}
	return e
}

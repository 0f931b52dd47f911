package handshake

import (
	"errors"
	"fmt"
	"io/fs"
)

// An Error says in one line what is wrong, and in another what to do.
type Error struct {
	Cause, Advice string
	Err           error // for errors.Is; may be nil
}

func (e *Error) Error() string { return e.Cause }

// Hint returns one line for the developer.
func (e *Error) Hint() string { return e.Advice }

func (e *Error) Unwrap() error { return e.Err }

// passes is an error for the developer about connections that are not looked into.
func (c *Config) passes(err error, advice, cause string, args ...any) *Error {
	return &Error{fmt.Sprintf("port %d: %s: connections pass as they are", c.Port, fmt.Sprintf(cause, args...)), advice, err}
}

// unread explains why a file could not be read. What has a hint keeps it.
func unread(what string, path string, err error) error {
	advice := ""
	var hinted interface{ Hint() string }
	switch {
	case errors.As(err, &hinted):
		advice = hinted.Hint()
	case errors.Is(err, fs.ErrNotExist):
		advice = "the path is one of the target's container; a Secret is named with secret:"
	case errors.Is(err, fs.ErrPermission):
		advice = "name the Secret that it comes from with secret:"
	}
	var path2 *fs.PathError
	if errors.As(err, &path2) {
		return &Error{fmt.Sprintf("read %s %s: %v", what, path, path2.Err), advice, err}
	}
	return &Error{fmt.Sprintf("read %s %s: %v", what, path, err), advice, err}
}

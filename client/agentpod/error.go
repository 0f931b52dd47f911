package agentpod

import "errors"

// ErrGone is the error for an agent that has left, or is leaving: Enter finds or starts the next one.
var ErrGone = errors.New("the agent has left")

// An Error says in one line what went wrong and in another what to do about it.
type Error struct {
	Cause  string
	Advice string // see Hint
	Err    error  // what it came from, for errors.Is and errors.As; may be nil
}

func (e *Error) Error() string { return e.Cause }

// Hint returns one line that says what to do, or "".
func (e *Error) Hint() string { return e.Advice }

func (e *Error) Unwrap() error { return e.Err }

package cluster

import (
	"fmt"
	"strings"
)

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

// NotFound is the error for a target, a container or a namespace that is not there.
type NotFound struct {
	What   string // deploy/ems, container "web" of pod/ems-1, namespace "dev"
	Where  string // the namespace; "" for what has none
	Advice string // see Hint
}

func (e *NotFound) Error() string {
	if e.Where == "" {
		return e.What + " does not exist"
	}
	return fmt.Sprintf("%s does not exist in namespace %s", e.What, e.Where)
}

// Hint names what was perhaps meant.
func (e *NotFound) Hint() string { return e.Advice }

// NotReady is the error for a target that is there and has no pod that could be used.
type NotReady struct {
	What   string // deploy/ems
	Waits  string // what it waits for: ems-1: container web waits: ImagePullBackOff: …
	Advice string // see Hint
}

func (e *NotReady) Error() string {
	if strings.HasPrefix(e.What, KindPod+"/") {
		return fmt.Sprintf("%s is not ready: %s", e.What, e.Waits)
	}
	return fmt.Sprintf("%s has no ready pod: %s", e.What, e.Waits)
}

// Hint says how to learn more.
func (e *NotReady) Hint() string { return e.Advice }

// manyNames is how many names fit into a hint.
const manyNames = 6

// some lists names, the first ones when there are many.
func some(names []string) string {
	switch n := len(names); {
	case n == 0:
		return "none"
	case n > manyNames:
		return fmt.Sprintf("%s, and %d more", strings.Join(names[:manyNames], ", "), n-manyNames)
	}
	return strings.Join(names, ", ")
}

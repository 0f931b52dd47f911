//go:build linux && (amd64 || arm64)

// Package unotify runs a program whose chosen system calls are answered by this process: seccomp user notification,
// without cgo and without rights. It never decides what a call means; that is the handler's part.
//
// A program is started through two stages of our own binary: a guard, which becomes the parent of the whole tree and
// ends it when we die, and a launcher, which installs the filter on itself and turns into the program. Main must
// therefore be the first call of main().
package unotify

//go:build !linux || (!amd64 && !arm64)

// Package unotify is empty here: seccomp user notification exists on Linux only.
package unotify

// Main does nothing here.
func Main() {}

package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// untilSignal returns a context that a Ctrl-C or SIGTERM ends, until calm is called; calm reports whether one came. A
// [signal.NotifyContext] could not tell: it may swallow the signal that comes while it is stopped.
func untilSignal(parent context.Context) (_ context.Context, calm func() bool) {
	ctx, cancel := context.WithCancel(parent)
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer close(done)
		for range signals {
			cancel()
		}
	}()
	return ctx, sync.OnceValue(func() bool {
		signal.Stop(signals)
		close(signals)
		<-done
		defer cancel()
		return ctx.Err() != nil
	})
}

// interrupted replaces the error of what a Ctrl-C cut short: the user knows why.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ended(statusSignal + int(syscall.SIGINT))
	}
	return err
}

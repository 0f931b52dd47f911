package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// untilSignal returns a context that a Ctrl-C ends, or another signal that would end us, until calm is called; calm
// reports whether one came. A [signal.NotifyContext] could not tell: it may swallow the signal that comes while it is
// stopped. From then on signals are the command's, but until release is called none of them ends us either: agents wait
// a minute for a session that went without a word. What was ignored before us (nohup) stays so.
func untilSignal(parent context.Context) (_ context.Context, calm func() bool, release func()) {
	ctx, cancel := context.WithCancel(parent)
	signals, heed, quiet := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	go func() {
		defer close(quiet)
		for {
			select {
			case <-signals:
				cancel()
			case <-heed:
				return
			}
		}
	}()
	calm = sync.OnceValue(func() bool {
		close(heed)
		<-quiet
		defer cancel()
		return ctx.Err() != nil || len(signals) > 0
	})
	return ctx, calm, func() {
		calm()
		signal.Stop(signals)
	}
}

// interrupted replaces the error of what a Ctrl-C cut short: the user knows why.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ended(statusSignal + int(syscall.SIGINT))
	}
	return err
}

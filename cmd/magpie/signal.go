package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/magpie-k8s/magpie/layer"
)

// untilSignal returns a context that a Ctrl-C ends, or another signal that would end us, until calm is called; calm
// reports whether one came. A [signal.NotifyContext] could not tell: it may swallow the signal that comes while it is
// stopped. From then on signals are the command's: they are read from the channel, and until release is called none of them
// ends us either, for agents wait a minute for a session that went without a word. What was ignored before us (nohup) stays so.
func untilSignal(parent context.Context) (_ context.Context, _ <-chan os.Signal, calm func() bool, release func()) {
	ctx, cancel := context.WithCancel(parent)
	signals, heed, quiet := make(chan os.Signal, 16), make(chan struct{}), make(chan struct{})
	for _, sig := range layer.Signals() {
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
	return ctx, signals, calm, func() {
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

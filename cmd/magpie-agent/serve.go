package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/agent"
)

type serving struct {
	target   string
	socket   string
	socketFD int
	wordFD   int
	linger   time.Duration
	debug    bool
}

func newServe(stderr io.Writer) *cobra.Command {
	var s serving
	cmd := &cobra.Command{
		Use:   "serve --target KIND/NAME --socket PATH",
		Short: "Serve sessions on a unix socket until the last one, and the last connection that it passes, are gone",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if s.debug {
				level = slog.LevelDebug
			}
			return s.run(cmd.Context(), slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.target, "target", "", "whom to stand beside: netns/NAME or pid/N")
	flags.StringVar(&s.socket, "socket", "", "unix socket to listen on; clients name it with --agent")
	flags.DurationVar(&s.linger, "linger", time.Minute, "how long passed connections may go on after the last claim of their port, before each is closed between two requests")
	flags.BoolVar(&s.debug, "debug", false, "log each connection")
	flags.IntVar(&s.socketFD, "socket-fd", -1, "descriptor of a socket that listens already (from join)")
	flags.IntVar(&s.wordFD, "word-fd", -1, "descriptor to say the first word on (from join)")
	return cmd
}

func (s *serving) run(ctx context.Context, log *slog.Logger) error {
	l, err := s.listener()
	if err != nil {
		return err
	}
	defer l.Close()
	a, err := agent.New(agent.Config{Target: s.target, Version: version, Linger: atOnce(s.linger), Logger: log, Stay: s.socketFD < 0})
	if s.wordFD >= 0 {
		word := os.NewFile(uintptr(s.wordFD), "word")
		err = errors.Join(err, agent.Report(word, err), word.Close())
	}
	if err != nil {
		return err
	}
	defer a.Close()
	return a.Serve(ctx, l)
}

// atOnce translates a linger of nothing: in a Config, zero is the default.
func atOnce(linger time.Duration) time.Duration {
	if linger == 0 {
		return -1
	}
	return linger
}

func (s *serving) listener() (*net.UnixListener, error) {
	if s.socketFD < 0 {
		return net.ListenUnix("unix", &net.UnixAddr{Name: s.socket, Net: "unix"})
	}
	f := os.NewFile(uintptr(s.socketFD), "socket")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	unix, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("socket: descriptor %d is no unix socket", s.socketFD)
	}
	return unix, nil
}

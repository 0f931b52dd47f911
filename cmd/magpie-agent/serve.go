package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/agent"
)

type serving struct {
	target    string
	listen    string
	socket    string
	socketFD  int
	wordFD    int
	linger    time.Duration
	debug     bool
	lastWords string
	node      string
	flush     bool
}

func newServe(stderr io.Writer) *cobra.Command {
	var s serving
	cmd := &cobra.Command{
		Use:   "serve --target KIND/NAME (--socket PATH | --listen tcp:HOST:PORT | --listen unix:PATH)",
		Short: "Serve sessions until the last one, and the last connection that it passes, are gone",
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
	flags.StringVar(&s.target, "target", "", "whom to stand beside: container/ID, pid/N, netns/NAME or none")
	flags.StringVar(&s.listen, "listen", "", "where clients come over a network (as in a cluster): their carriers are bonds, and they may come back to lost sessions")
	flags.StringVar(&s.socket, "socket", "", "unix socket to listen on until told to end; clients name it with --agent")
	flags.DurationVar(&s.linger, "linger", time.Minute, "how long passed connections may go on after the last claim of their port, before each is closed between two requests")
	flags.BoolVar(&s.debug, "debug", false, "log each connection")
	flags.StringVar(&s.lastWords, "termination-log", terminationLog, "with --listen, the file to leave in why the agent ended, if it is there")
	flags.StringVar(&s.node, "node", "", "name of the cluster's node that this runs on, for people")
	flags.BoolVar(&s.flush, "flush", false, "with --listen, keep the right to close connections that are older than a claim (CAP_NET_ADMIN)")
	flags.IntVar(&s.socketFD, "socket-fd", -1, "descriptor of a socket that listens already (from join)")
	flags.IntVar(&s.wordFD, "word-fd", -1, "descriptor to say the first word on (from join)")
	return cmd
}

func (s *serving) run(ctx context.Context, log *slog.Logger) error {
	err := s.serve(ctx, log)
	if err != nil && s.remote() {
		err = errors.Join(err, sayLastWords(s.lastWords, err))
	}
	return err
}

// serve opens the door first: who comes while the agent finds its place waits in the queue and not before a closed door.
func (s *serving) serve(ctx context.Context, log *slog.Logger) error {
	l, err := s.listener()
	if err != nil {
		return err
	}
	defer l.Close()
	a, err := agent.New(agent.Config{
		Target: s.target, Version: version, Linger: atOnce(s.linger), Logger: log,
		Stay: s.socket != "", Remote: s.remote(), Node: s.node,
	})
	if err == nil && s.remote() {
		err = s.confine(a, log)
	}
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

// confine is for an agent in a cluster, where others than its user trust it.
func (s *serving) confine(a *agent.Agent, log *slog.Logger) error {
	var kept []agent.Right
	if s.flush {
		kept = append(kept, agent.ToFlush)
	}
	err := agent.Confine(kept...)
	if errors.Is(err, agent.ErrNotConfined) {
		log.Warn("rights kept", "err", err)
		return nil
	}
	if err != nil {
		return errors.Join(err, a.Close())
	}
	return nil
}

func (s *serving) remote() bool { return s.listen != "" }

// atOnce translates a linger of nothing: in a Config, zero is the default.
func atOnce(linger time.Duration) time.Duration {
	if linger == 0 {
		return -1
	}
	return linger
}

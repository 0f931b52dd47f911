package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/client"
	"github.com/magpie-k8s/magpie/filters"
	"github.com/magpie-k8s/magpie/layer"
)

const execExample = `  # requests with the header 'x-user: me' reach ./my-shop, all others the shop in the namespace
  magpie exec --target netns/shop --steal --http-header-filter 'x-user: me' -- ./my-shop

  # whole TCP connections of the ports that the process listens on, whatever they carry
  magpie exec --target pid/4711 --steal -- python3 -m http.server 8080

  # two expressions, of which one is enough; with each routed request on stderr
  magpie exec --target netns/shop --steal --http-header-filter 'x-user: me' \
      --http-path-filter '^/debug/' --http-filter-any -v -- ./my-shop

  # all requests of mine but health checks; one variable replaced, secrets left out
  magpie exec --target netns/shop --steal --http-header-filter 'x-user: me' --http-path-filter '!^/healthz$' \
      --env LOG_LEVEL=debug --env-exclude '*_SECRET' -- ./my-shop`

// execution is one magpie exec.
type execution struct {
	target  string
	agent   string
	steal   bool
	verbose bool
	linger  time.Duration
	filters filterFlags
	env     envFlags

	stderr io.Writer
}

func newExec(stderr io.Writer) *cobra.Command {
	x := &execution{stderr: stderr}
	cmd := &cobra.Command{
		Use:   "exec --target KIND/NAME --steal [flags] -- COMMAND [ARG...]",
		Short: "Run a command as the target",
		Long: `Run a command on this machine as if it ran inside the target.

Requests that reach the target and match the filter go to the command; all others are answered by the original,
as before. Without a filter, --steal takes whole connections of the ports that the command listens on. What the
command connects to and looks up, it does from inside the target; its environment is the target's.

Targets:  netns/NAME  a network namespace of this machine, as in ip-netns(8)
          pid/N       a process of this machine

The exit status is the command's. Magpie's own: 2 wrong usage, 125 Magpie could not do its part,
126 the command cannot be run, 127 the command is not there, 128+N the command died of signal N.`,
		Example: execExample,
		Args:    commandGiven,
		RunE: func(cmd *cobra.Command, args []string) error {
			return x.run(cmd.Context(), args)
		},
		ValidArgsFunction: func(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what stands behind the command is the command's
	flags.StringVarP(&x.target, "target", "t", "", "whom to stand in for: `KIND/NAME`")
	flags.BoolVar(&x.steal, "steal", false, "take the requests; the original does not get them")
	x.filters.register(flags)
	x.env.register(flags)
	flags.DurationVar(&x.linger, "linger", time.Minute, "how long connections that pass through the agent may go on after the last session on a port, before they are closed between two requests")
	flags.StringVar(&x.agent, "agent", "", "`socket` of an agent that runs already (else it is found or started, through sudo if need be)")
	flags.BoolVarP(&x.verbose, "verbose", "v", false, "show each routed request: who answered, status, milliseconds")
	_ = cmd.RegisterFlagCompletionFunc("target", completeTarget)
	return cmd
}

func commandGiven(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("put it behind --, as in: magpie exec --target netns/shop --steal -- ./my-shop", "exec: no command to run")
	}
	return nil
}

// completeTarget offers the namespaces of this machine.
func completeTarget(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	var found []string
	entries, _ := os.ReadDir("/run/netns")
	for _, e := range entries {
		if name := "netns/" + e.Name(); strings.HasPrefix(name, typed) {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return []string{"netns/", "pid/"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// run does all that can fail for the user's own reasons first, attaches, and runs the command.
func (x *execution) run(ctx context.Context, args []string) error {
	filter, err := x.check(args)
	if err != nil {
		return err
	}
	if err := lookUp(args[0]); err != nil {
		return err
	}
	attaching, calm := untilSignal(ctx)
	defer calm()
	steps := newSteps(x.stderr)
	session, err := client.Open(attaching, client.Config{
		Target: x.target, Socket: x.agent, Linger: x.linger, Version: version, Command: args, Step: steps.done,
	})
	if err != nil {
		return interrupted(attaching, err)
	}
	defer session.Close()
	steps.self = session.Name()
	env, files, err := x.world(attaching, session, steps)
	if err != nil {
		return interrupted(attaching, err)
	}
	if calm() { // from here on, signals are the command's
		return interrupted(attaching, nil)
	}
	return x.supervise(ctx, session, steps, filter, layer.Config{
		Args: args, Env: env, Files: files,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Logger: x.logger(),
	})
}

// check finds what is wrong with the flags.
func (x *execution) check(args []string) (*filters.Filter, error) {
	if x.target == "" {
		return nil, usage("say whom to stand in for, as in --target netns/shop or --target pid/4711", "exec: no target")
	}
	if !x.steal {
		return nil, usage("add --steal: requests that match the filter come to "+args[0]+" alone", "exec: mirroring, which is what exec does without --steal, is not in this version")
	}
	if err := x.env.check(); err != nil {
		return nil, err
	}
	if x.linger < 0 {
		return nil, usage("as in --linger 30s", "--linger %v: less than nothing", x.linger)
	}
	return x.filters.filter()
}

// lookUp looks for the command as a shell would, before anything is attached.
func lookUp(name string) error {
	_, err := exec.LookPath(name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return &failure{statusNotExecutable, fmt.Errorf("%s: permission denied", name), "make it executable: chmod +x " + name}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound), errors.Is(err, exec.ErrDot):
		return &failure{statusNotFound, fmt.Errorf("%s: command not found", name), "a program in this folder needs ./ in front; others are looked for in $PATH"}
	}
	return &failure{statusNotExecutable, fmt.Errorf("%s: %w", name, err), "see execve(2)"}
}

// world asks the target for what the command will find around it: its environment and the files that names are
// looked up by.
func (x *execution) world(ctx context.Context, session *client.Session, steps *steps) ([]string, map[string][]byte, error) {
	theirs, err := session.Environment(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("environment of %s: %w", x.target, err)
	}
	names, err := session.Names(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("names of %s: %w", x.target, err)
	}
	steps.done("environment", x.env.taken(theirs))
	return x.env.merge(os.Environ(), theirs), map[string][]byte{
		"/etc/resolv.conf":   names.ResolvConf,
		"/etc/hosts":         names.Hosts,
		"/etc/nsswitch.conf": names.Nsswitch,
	}, nil
}

// supervise runs the command under the layer until it ends, or until the session does.
func (x *execution) supervise(ctx context.Context, session *client.Session, steps *steps, filter *filters.Filter, cfg layer.Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		<-session.Done()
		cancel(session.Err())
	}()
	pod := &pod{session: session, filter: filter, steps: steps, target: x.target, command: cfg.Args[0]}
	if x.verbose {
		if err := x.watch(ctx, session, steps); err != nil {
			return err
		}
	}
	status, err := layer.Run(ctx, cfg, pod)
	if cause := context.Cause(ctx); cause != nil && session.Err() != nil {
		return &failure{statusMagpie, fmt.Errorf("session on %s lost: %w", x.target, cause), lossHint(cause)}
	}
	if err != nil {
		return notRun(cfg.Args[0], err)
	}
	steps.summary(pod)
	if status != 0 {
		return ended(status)
	}
	return nil
}

func lossHint(cause error) string {
	hint := "the command was ended, so that it does nothing outside the target"
	if more := hintOf(cause); more != "" {
		return hint + "; " + more
	}
	return hint + "; start again"
}

// notRun gives a command that could not be started the statuses of a shell.
func notRun(name string, err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &failure{statusNotFound, fmt.Errorf("%s: %w", name, err), "the file is there, but not the interpreter in its first line, or its loader"}
	case errors.Is(err, syscall.ENOEXEC), errors.Is(err, fs.ErrPermission) && errors.As(err, &errno):
		return &failure{statusNotExecutable, fmt.Errorf("%s: %w", name, err), "a script needs a first line like #!/bin/sh"}
	}
	return err
}

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

func (x *execution) logger() *slog.Logger {
	level := slog.LevelWarn
	if os.Getenv("MAGPIE_DEBUG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(x.stderr, &slog.HandlerOptions{Level: level}))
}

// watch prints each request that the agent routes on the session's ports. It must be open before the first claim.
func (x *execution) watch(ctx context.Context, session *client.Session, steps *steps) error {
	follow, err := session.Watch(ctx, steps.request)
	if err != nil {
		return err
	}
	go func() {
		if err := follow(); err != nil && ctx.Err() == nil {
			steps.note("-v ended: %v", err)
		}
	}()
	return nil
}

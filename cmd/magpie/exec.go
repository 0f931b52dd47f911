package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/client"
	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/client/config"
	"github.com/magpie-k8s/magpie/layer"
)

const execExample = `  # requests with the header 'x-user: me' to any replica reach ./ems, all others the pods
  magpie exec --target deploy/ems -n dev --steal --http-header-filter 'x-user: me' -- ./ems

  # take nothing: a command with the network, the names and the environment of a pod
  magpie exec --target deploy/ems -n dev -- curl http://other-svc/

  # whole TCP connections of one pod, whatever they carry; its container 'web'
  magpie exec -p ems-5d9c7-x2x4v -c web --steal -- python3 -m http.server 8080

  # no pod at all, but the cluster's network and names
  magpie exec --target none -- psql -h db

  # without a cluster: a network namespace of this machine; two expressions, of which one is enough; -v shows each request
  magpie exec --target netns/shop --steal --http-header-filter 'x-user: me' \
      --http-path-filter '^/debug/' --http-filter-any -v -- ./my-shop

  # gRPC calls with the metadata 'x-user: me'; connections that clients have kept open are closed, so that they open new ones
  magpie exec --target deploy/ems --steal --http-header-filter 'x-user: me' --flush -- ./ems

  # all requests of mine but health checks; one variable replaced, secrets left out
  magpie exec --target deploy/ems --steal --http-header-filter 'x-user: me' --http-path-filter '!^/healthz$' \
      --env LOG_LEVEL=debug --env-exclude '*_SECRET' -- ./ems`

const execLong = `Run a command on this machine as if it ran inside the target.

With --steal, requests that reach the target and match the filter go to the command; all others are answered by
the original, as before. Without a filter, whole connections of the ports that the command listens on are taken.
What the command connects to and looks up, it does from inside the target; its environment is the target's.

Targets:  deploy/NAME  and sts, rs, ds, job, cronjob, rollout, svc: all ready pods, and those that come later
          pod/NAME     one pod; --pod NAME is short for it
          label/K=V    all pods with these labels
          none         no pod: the network and the names of the cluster
          netns/NAME   a network namespace of this machine, as in ip-netns(8)
          pid/N        a process of this machine
'magpie ls' lists what there is. /container/NAME after a name, or --container, says which container is meant.

The exit status is the command's. Magpie's own: 2 wrong usage, 125 Magpie could not do its part,
126 the command cannot be run, 127 the command is not there, 128+N the command died of signal N.`

// localProtocols are the values of --local-protocol, the default first, in the order of client.Protocol.
var localProtocols = []string{"same", "h1", "h2c", "tls"}

// replicaChoices are the values of --replicas, the default first.
var replicaChoices = []string{"all", "one"}

// execution is one magpie exec.
type execution struct {
	aim      aim
	target   string // what aim says
	replicas string
	socket   string
	steal    bool
	verbose  bool
	linger   time.Duration
	filters  filterFlags
	local    string
	flush    bool
	env      envFlags
	agent    agentFlags
	settings config.Config // what agent says

	cluster *cluster.Flags
	stderr  io.Writer
}

func newExec(kubectl *cluster.Flags, stderr io.Writer) *cobra.Command {
	x := &execution{cluster: kubectl, stderr: stderr}
	cmd := &cobra.Command{
		Use:     "exec --target KIND/NAME [--steal] [flags] -- COMMAND [ARG...]",
		Short:   "Run a command as the target",
		Long:    execLong,
		Example: execExample,
		Args:    commandGiven,
		RunE:    x.run,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what stands behind the command is the command's
	x.aim.register(cmd)
	x.aim.complete(cmd, kubectl)
	flags.BoolVar(&x.steal, "steal", false, "take the requests; the original does not get them")
	x.filters.register(flags)
	flags.StringVar(&x.local, "local-protocol", localProtocols[0], "the `protocol` that the command speaks: the same as the client, h1 or h2c (HTTP/1.1 or HTTP/2, not encrypted), or tls")
	_ = cmd.RegisterFlagCompletionFunc("local-protocol", cobra.FixedCompletions(localProtocols, cobra.ShellCompDirectiveNoFileComp))
	flags.BoolVar(&x.flush, "flush", false, "close connections that were open before the session, one by one, each when nothing goes over it: clients open new ones")
	x.env.register(flags)
	flags.StringVar(&x.replicas, "replicas", replicaChoices[0], "whose requests to take: those of `all` replicas, or of one")
	_ = cmd.RegisterFlagCompletionFunc("replicas", cobra.FixedCompletions(replicaChoices, cobra.ShellCompDirectiveNoFileComp))
	x.agent.register(cmd)
	markForClusters(flags, "container", "replicas", "agent-image", "agent-namespace", "ephemeral")
	flags.DurationVar(&x.linger, "linger", time.Minute, "how long connections that pass through the agent may go on after the last session on a port, before they are closed between two requests")
	flags.StringVar(&x.socket, "agent", "", "`socket` of an agent that runs already on this machine (else it is found or started, through sudo if need be)")
	flags.BoolVarP(&x.verbose, "verbose", "v", false, "show the parts of the start, and each routed request: who answered, status, milliseconds")
	return cmd
}

func commandGiven(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("put it behind --, as in: "+cmd.CommandPath()+" --target deploy/ems --steal -- ./ems", "exec: no command to run")
	}
	return nil
}

// run does all that can fail for the user's own reasons first, attaches, and runs the command.
func (x *execution) run(cmd *cobra.Command, args []string) error {
	ctx := cmd.Context()
	cfg, wish, err := x.check(cmd, args)
	if err != nil {
		return err
	}
	if err := lookUp(args[0]); err != nil {
		return err
	}
	attaching, signals, calm, release := untilSignal(ctx)
	defer release()
	steps := newSteps(x.stderr)
	cfg.Step = steps.done
	if x.verbose {
		cfg.Part = steps.part
	}
	session, err := client.Open(attaching, cfg)
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
	return x.supervise(ctx, session, steps, wish, layer.Config{
		Args: args, Env: env, Files: files,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Signals: signals, Logger: x.logger(),
	})
}

// check finds what is wrong with the flags and the settings, before anybody is asked for anything.
func (x *execution) check(cmd *cobra.Command, args []string) (cfg client.Config, wish client.Wish, err error) {
	target, inCluster, err := x.aim.resolve(cmd)
	if err != nil {
		return cfg, wish, err
	}
	x.target = target
	cfg = client.Config{Target: target, Socket: x.socket, Linger: x.linger, Version: version, Command: args}
	if err := x.env.check(); err != nil {
		return cfg, wish, err
	}
	if x.linger < 0 {
		return cfg, wish, usage("as in --linger 30s", "--linger %v: less than nothing", x.linger)
	}
	if wish, err = x.wish(); err != nil {
		return cfg, wish, err
	}
	if wish.Filter != nil && !x.steal {
		return cfg, wish, usage("add --steal: requests that match the filter come to "+args[0]+" alone", "exec: a filter without --steal: mirroring, for which it would be, is not in this version")
	}
	if x.settings, err = x.agent.settings(cmd); err != nil {
		return cfg, wish, err
	}
	cfg.Agent = x.settings.Agent
	cfg.Agent.Flush = x.flush
	if inCluster {
		err = x.inCluster(&cfg)
	}
	return cfg, wish, err
}

// wish is what the flags say about the requests that are ours.
func (x *execution) wish() (wish client.Wish, err error) {
	if wish.Filter, err = x.filters.filter(); err != nil {
		return wish, err
	}
	local := slices.Index(localProtocols, x.local)
	if local < 0 {
		return wish, usage("there are "+strings.Join(localProtocols, ", "), "--local-protocol %q: unknown", x.local)
	}
	wish.Local, wish.Flush = client.Protocol(local), x.flush
	switch {
	case wish.Local != client.Same && wish.Filter == nil:
		return wish, usage("add a filter, as in --http-header-filter 'x-user: me'", "--local-protocol %s: without a filter whole connections are taken, as they are", x.local)
	case wish.Flush && !x.steal:
		return wish, usage("add --steal, or leave --flush out", "--flush: nothing is taken, so no connection is in the way")
	}
	return wish, nil
}

// inCluster adds what a target in a cluster needs.
func (x *execution) inCluster(cfg *client.Config) (err error) {
	if x.socket != "" {
		return usage("leave --agent out: the agent is found or started", "--agent is for targets on this machine, and %s is in a cluster", x.target)
	}
	if !slices.Contains(replicaChoices, x.replicas) {
		return usage("--replicas all, or --replicas one", "--replicas %q: how many?", x.replicas)
	}
	if cfg.Replicas = x.replicas; !x.steal {
		cfg.Replicas = client.OneReplica // nothing is taken: one agent is enough to stand where the pods are
	}
	cfg.Cluster, err = cluster.Connect(x.cluster)
	return err
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
	steps.attach()
	return x.env.merge(os.Environ(), theirs), map[string][]byte{
		"/etc/resolv.conf":   names.ResolvConf,
		"/etc/hosts":         names.Hosts,
		"/etc/nsswitch.conf": names.Nsswitch,
	}, nil
}

// supervise runs the command under the layer until it ends, or until the session does.
func (x *execution) supervise(ctx context.Context, session *client.Session, steps *steps, wish client.Wish, cfg layer.Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		<-session.Done()
		cancel(session.Err())
	}()
	pod := &pod{session: session, settings: x.settings, wish: wish, steal: x.steal, steps: steps, target: x.target, command: cfg.Args[0]}
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

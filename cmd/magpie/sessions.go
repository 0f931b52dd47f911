package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/client"
	"github.com/magpie-k8s/magpie/client/agentpod"
	"github.com/magpie-k8s/magpie/client/cluster"
)

// askingTime bounds how long one agent may take to say who is there; askedAtOnce bounds how many are asked together.
const (
	askingTime  = 5 * time.Second
	askedAtOnce = 16
)

// survey looks for the sessions of everybody.
type survey struct {
	kubectl *cluster.Flags
	agent   agentFlags
	all     bool
	stderr  io.Writer
}

func newSessions(kubectl *cluster.Flags, stderr io.Writer) *cobra.Command {
	s := &survey{kubectl: kubectl, stderr: stderr}
	var out output
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List the sessions of everybody",
		Long: `List the sessions that stand in the cluster now, of everybody: who takes which requests of what, and since when.
The agents are asked, one beside each target; a session that takes nothing is listed too.`,
		Example: `  magpie sessions -n dev
  magpie sessions -A -o json
  magpie sessions stop 4f1c09ae -n dev`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			found, err := s.run(cmd)
			if err != nil {
				return err
			}
			if len(found) == 0 {
				fmt.Fprintln(stderr, "magpie: no session")
			}
			return out.print(cmd.OutOrStdout(), listingOf(found, s.all))
		},
	}
	s.register(cmd)
	out.register(cmd, formats...)
	cmd.AddCommand(newStop(kubectl, stderr))
	return cmd
}

func (s *survey) register(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&s.all, "all-namespaces", "A", false, "in all namespaces")
	s.agent.registerWhere(cmd)
}

// run asks all agents, and joins what they say of the same session.
func (s *survey) run(cmd *cobra.Command) ([]session, error) {
	agents, err := s.agents(cmd)
	if err != nil {
		return nil, err
	}
	var all sessionList
	s.each(cmd.Context(), agents, func(ctx context.Context, a *agentpod.Agent, pipe io.ReadWriteCloser) (func(), error) {
		running, err := client.Sessions(ctx, pipe)
		namespace, pod := a.TargetPod()
		return func() { all.add(namespace, pod, running) }, err
	})
	return all.sorted(), nil
}

// agents finds those beside pods of our namespace, or of all.
func (s *survey) agents(cmd *cobra.Command) ([]*agentpod.Agent, error) {
	settings, err := s.agent.settings(cmd)
	if err != nil {
		return nil, err
	}
	c, err := cluster.Connect(s.kubectl)
	if err != nil {
		return nil, err
	}
	where := cmp.Or(settings.Agent.Namespace, c.Namespace())
	if s.all {
		where = settings.Agent.Namespace
	}
	agents, err := agentpod.Running(cmd.Context(), c, where)
	if err != nil || s.all {
		return agents, err
	}
	return slices.DeleteFunc(agents, func(a *agentpod.Agent) bool {
		namespace, _ := a.TargetPod()
		return namespace != "" && namespace != c.Namespace()
	}), nil
}

// inquiry is a question to an agent. What is to be done with the answer is done one answer at a time.
type inquiry func(context.Context, *agentpod.Agent, io.ReadWriteCloser) (then func(), err error)

// each puts a question to all agents. One that is just leaving has no answer, and no session.
func (s *survey) each(ctx context.Context, agents []*agentpod.Agent, ask inquiry) {
	var mu sync.Mutex
	var work sync.WaitGroup
	places := make(chan struct{}, askedAtOnce)
	for _, a := range agents {
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			then, err := question(ctx, a, ask)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, agentpod.ErrGone):
			case err != nil:
				fmt.Fprintf(s.stderr, "magpie: agent %s does not answer: %v\n", a.Name(), err)
			default:
				then()
			}
		})
	}
	work.Wait()
}

func question(ctx context.Context, a *agentpod.Agent, ask inquiry) (then func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, askingTime)
	defer cancel()
	defer a.Close()
	pipe, err := a.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return ask(ctx, a, pipe) // which closes it
}

package agentpod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/wire"
)

const (
	// pipes of one carrier. One carries about 64 KiB per round trip; the ones of exec each cost a process beside the target.
	forwardPipes = 12
	execPipes    = 4

	// openTime is for one carrier. An agent that listens answers in five round trips.
	openTime = 10 * time.Second
)

// Dial opens a carrier to the agent, ready for wire.Client, whose pipes are its own. ErrGone says that the agent has left.
func (a *Agent) Dial(ctx context.Context) (io.ReadWriteCloser, error) {
	if bond := a.take(); bond != nil {
		return bond, nil
	}
	return a.open(ctx)
}

// open returns a bond on which the agent has answered.
func (a *Agent) open(ctx context.Context) (*wire.Bond, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	pipe, pipes := a.forward, forwardPipes
	if a.container != "" {
		pipe, pipes = a.exec, execPipes
	}
	first, err := pipe(ctx)
	if err != nil {
		return nil, a.unreachable(err)
	}
	bond := wire.NewBond(first, func(ctx context.Context) (io.ReadWriteCloser, error) { return pipe(ctx) }, pipes)
	if err := bond.Answered(ctx); err != nil {
		bond.Close()
		return nil, a.unreachable(err)
	}
	return bond, nil
}

// unreachable says what an error on the way to an agent means.
func (a *Agent) unreachable(err error) error {
	err = answer(err)
	switch {
	case apierrors.IsNotFound(err), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%v: %w: %w", a, ErrGone, err)
	case errors.As(err, new(*wire.Error)):
		return fmt.Errorf("reach %v: %w", a, err)
	}
	return cluster.Explain(fmt.Sprintf("reach %v", a), err)
}

package agentpod

import (
	"errors"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// ErrGone is the error for an agent that has left, or is leaving: Enter finds or starts the next one.
var ErrGone = errors.New("the agent has left")

// An Error is one line of cause and one of hint, as those of package cluster are.
type Error = cluster.Error

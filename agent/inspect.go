package agent

import (
	"context"
	"syscall"

	"github.com/magpie-k8s/magpie/wire"
)

// Inspect says what the kernel and our rights allow here.
func (c *calls) Inspect(context.Context, *wire.InspectRequest) (*wire.InspectResponse, error) {
	return nil, syscall.ENOSYS
}

// Leave ends the caller's session for good.
func (c *calls) Leave(context.Context, *wire.LeaveRequest) (*wire.LeaveResponse, error) {
	return nil, syscall.ENOSYS
}

// Stop ends the sessions with an id.
func (c *calls) Stop(context.Context, *wire.StopRequest) (*wire.StopResponse, error) {
	return nil, syscall.ENOSYS
}

package agent

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// An agent may take long to start. Who wants another target does not wait for it.
func TestSweepDoesNotWaitForADoorInUse(t *testing.T) {
	testnet.RequireRoot(t)
	d := DoorOf(fmt.Sprintf("test-%d", os.Getpid()))
	unlock, err := d.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	defer d.clear()
	if err := os.WriteFile(d.socket(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		sweep()
	}()
	select {
	case <-swept:
	case <-time.After(2 * time.Second):
		t.Error("waits")
	}
	if _, err := os.Stat(d.socket()); err != nil {
		t.Error(err)
	}
}

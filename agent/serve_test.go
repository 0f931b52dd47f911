package agent

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/wire"
)

// A client may vanish before it hears who it is.
func TestNoSessionOutlivesItsCarrier(t *testing.T) {
	a, err := New(Config{Target: "netns/" + testnet.Lone(t).Name})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for i := range 300 {
		near, far := net.Pipe()
		var serving sync.WaitGroup
		serving.Go(func() { a.serveCarrier(t.Context(), far) })
		c := wire.Client(near)
		calls, err := c.Calls(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		serving.Go(func() { _, _ = calls.Hello(t.Context(), &wire.HelloRequest{}) })
		time.Sleep(time.Duration(i) * 2 * time.Microsecond) // somewhere between too early and too late
		near.Close()
		serving.Wait()
		c.Close()
	}
	if left := a.all(); len(left) > 0 {
		t.Errorf("%d sessions are left", len(left))
	}
}

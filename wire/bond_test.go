package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

// bonds returns both ends of a bond of n pipes; the pipes are unix sockets that come at listener.
func mustBond(tb testing.TB, n int) (ours, theirs io.ReadWriteCloser) {
	tb.Helper()
	served, finish := make(chan io.ReadWriteCloser), make(chan struct{})
	g := NewGatherer(func(b io.ReadWriteCloser) { served <- b; <-finish })
	var work sync.WaitGroup
	dial := func(context.Context) (io.ReadWriteCloser, error) {
		a, b := mustPipe(tb)
		work.Go(func() { _ = g.Add(b) })
		return a, nil
	}
	first, _ := dial(tb.Context())
	bond := NewBond(first, dial, n)
	theirs = <-served
	tb.Cleanup(func() { bond.Close(); close(finish); work.Wait() })
	for n > len(pipesOf(bond)) || n > len(pipesOf(theirs.(*gathered).Bond)) {
		time.Sleep(time.Millisecond) // there is no event: nobody needs to know when a pipe has joined
	}
	return bond, theirs
}

func pipesOf(b *Bond) []*bondPipe {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pipes
}

func TestBondCarriesBytesInOrderBothWays(t *testing.T) {
	for _, n := range []int{1, 2, 8, maxPipes} {
		ours, theirs := mustBond(t, n)
		const size = 16 << 20
		data := make([]byte, size)
		rand.NewChaCha8([32]byte{}).Read(data)
		var work sync.WaitGroup
		for _, way := range []struct{ from, to io.ReadWriter }{{ours, theirs}, {theirs, ours}} {
			work.Go(func() {
				for rest := data; len(rest) > 0; {
					n := min(rand.IntN(200<<10)+1, len(rest))
					if _, err := way.from.Write(rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
			})
			work.Go(func() {
				got := make([]byte, size)
				if _, err := io.ReadFull(way.to, got); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d pipes: %v, or other bytes", n, err)
				}
			})
		}
		work.Wait()
	}
}

func TestBondCarriesACarrier(t *testing.T) {
	ours, theirs := mustBond(t, 4)
	client, agent := Client(ours), Agent(theirs)
	defer client.Close()
	defer agent.Close()
	a, b := mustOpen(t, client, agent)
	mustWrite(t, a, "hello")
	mustRead(t, b, "hello")
	mustWrite(t, b, "there")
	mustRead(t, a, "there")
}

var _ = errors.Is
var _ = net.Pipe
var _ = syscall.EPIPE
var _ = iotest.ErrTimeout

package wire

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// maxBonds bounds the bonds of one agent: each session has one.
const maxBonds = 1024

// A Gatherer puts the pipes that come to an agent together to bonds. It is safe for concurrent use.
type Gatherer struct {
	serve func(io.ReadWriteCloser)

	mu    sync.Mutex
	bonds map[bondID]*gathered
}

type gathered struct {
	*Bond
	seen [maxPipes]bool
}

// NewGatherer returns a Gatherer that gives each bond to serve as soon as its first pipe is there.
func NewGatherer(serve func(io.ReadWriteCloser)) *Gatherer {
	return &Gatherer{serve: serve, bonds: map[bondID]*gathered{}}
}

// Add takes a pipe that came. For the first pipe of a bond it returns when serve does, and the bond is closed then. For a
// further one it returns at once. An error says why the pipe was refused; it is closed then.
func (g *Gatherer) Add(pipe io.ReadWriteCloser) error {
	late := time.AfterFunc(standard.greet, func() { pipe.Close() })
	header, err := readBondHeader(pipe)
	if !late.Stop() && err == nil {
		err = fmt.Errorf("read bond header: client silent for %v", standard.greet)
	}
	var first *gathered
	if err == nil {
		first, err = g.place(header, pipe)
	}
	if err != nil {
		pipe.Close()
		return err
	}
	if first == nil {
		return nil
	}
	g.serve(first)
	g.mu.Lock()
	delete(g.bonds, header.id)
	g.mu.Unlock()
	return first.Close()
}

// place finds the bond of a pipe, or begins it; then it returns it.
func (g *Gatherer) place(h bondHeader, pipe io.ReadWriteCloser) (first *gathered, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.bonds[h.id]
	switch {
	case b == nil && h.index != 0:
		return nil, fmt.Errorf("add pipe %d of %d: its bond is over", h.index, h.count)
	case b == nil && len(g.bonds) >= maxBonds:
		return nil, fmt.Errorf("begin bond: there are %d", maxBonds)
	case b == nil:
		b = &gathered{Bond: newBond(h.id, func() {})}
		g.bonds[h.id] = b
		first = b
	case b.seen[h.index]:
		return nil, fmt.Errorf("add pipe %d of %d: it is there", h.index, h.count)
	}
	b.seen[h.index] = true
	if !b.join(pipe, bondAnswer(), nil) {
		return nil, fmt.Errorf("add pipe %d of %d: its bond is over", h.index, h.count)
	}
	return first, nil
}

package main

import (
	"net"
	"sync"
	"time"
)

const (
	// Bounds of what travels in one piece. A window that is all but full waits for more room, as TCP does.
	minParcel, maxParcel = 4 << 10, 16 << 10

	// maxParcels are on their way at a time; of small ones many fit in a window.
	maxParcels = 4096
)

// A relay is a long way to a server: what is said arrives half a round trip later, and of what one connection says in one direction no
// more than a window is on its way at a time, as with TCP.
type relay struct {
	to     string
	trip   time.Duration
	window int
	door   net.Listener
}

func newRelay(to string, trip time.Duration, window int) (*relay, error) {
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{to: to, trip: trip, window: window, door: door}
	go r.serve()
	return r, nil
}

// Addr is where the server seems to be.
func (r *relay) Addr() string { return r.door.Addr().String() }

// Close lets nobody new in; connections end when either side ends them.
func (r *relay) Close() error { return r.door.Close() }

func (r *relay) serve() {
	for {
		near, err := r.door.Accept()
		if err != nil {
			return
		}
		go r.join(near)
	}
}

// join charges one round trip for the connection itself.
func (r *relay) join(near net.Conn) {
	time.Sleep(r.trip)
	far, err := net.Dial("tcp", r.to)
	if err != nil {
		near.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { r.carry(far, near) })
	both.Go(func() { r.carry(near, far) })
	both.Wait()
	near.Close()
	far.Close()
}

// A parcel is on its way.
type parcel struct {
	bytes []byte
	due   time.Time
}

func (r *relay) carry(to, from net.Conn) {
	way, room := make(chan parcel, maxParcels), newRoom(r.window)
	var work sync.WaitGroup
	work.Go(func() {
		defer func() { _ = to.(*net.TCPConn).CloseWrite() }()
		for p := range way {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.bytes); err != nil {
				from.Close()
			}
			// The sender hears of it when the answer has come back.
			time.AfterFunc(r.trip/2, func() { room.give(len(p.bytes)) })
		}
	})
	for {
		b := make([]byte, room.take())
		n, err := from.Read(b)
		room.give(len(b) - n)
		if n > 0 {
			way <- parcel{b[:n], time.Now().Add(r.trip / 2)}
		}
		if err != nil {
			break
		}
	}
	close(way)
	work.Wait()
}

// A room is what is left of a window.
type room struct {
	mu   sync.Mutex
	more sync.Cond
	left int
}

func newRoom(size int) *room {
	r := &room{left: size}
	r.more.L = &r.mu
	return r
}

// take waits until there is some for a parcel.
func (r *room) take() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.left < minParcel {
		r.more.Wait()
	}
	n := min(r.left, maxParcel)
	r.left -= n
	return n
}

func (r *room) give(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left += n
	r.more.Signal()
}

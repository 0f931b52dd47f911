package h2

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// leaving says how far the original has gone.
type leaving uint8

const (
	staying leaving = iota
	left            // it has closed
)

// ends is how the connection comes to its own.
type ends struct {
	serving  bool // the client's side is read by us
	leaving  leaving
	said     uint32 // the last stream that the client was told will be served
	takes    uint32 // the last that the original serves, by its number
	cause    error  // of the original's end, if it was no proper one
	silent   bool   // the client says no more
	deaf     bool   // and is not listened to, for we have ended the connection
	retiring bool   // we have told the client to go
	ending   bool   // the client is being shown the end
	shown    bool   // it was
	aborted  bool
	closed   bool // shut waits for what is under way, and nothing more begins
	timer    *time.Timer

	over   chan struct{} // closed when nothing more happens
	change sync.Cond     // of anything in the books that somebody waits for
	work   sync.WaitGroup
}

// ServeClient hands on what the client says, from its preface on. It returns when the connection is over; ctx ends it at once.
// It reports false if the original has ended before: nothing was done then.
func (r *Relay) ServeClient(ctx context.Context) bool {
	if !r.begin() {
		return false
	}
	stop := context.AfterFunc(ctx, r.abort)
	defer stop()
	err := r.listen()
	var fault http2.ConnectionError
	if errors.As(err, &fault) {
		r.mu.Lock()
		last := r.last
		r.deaf, r.ending = true, true
		r.mu.Unlock()
		r.show(appendGoAway(nil, last, http2.ErrCode(fault), "Magpie cannot follow this connection"), lingering)
		_ = r.original.Close()
		err = r.listen()
	}
	if errors.Is(err, io.EOF) {
		r.endRequests()
	} else {
		r.abort()
	}
	<-r.over
	r.shut()
	return true
}

func (r *Relay) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving = r.leaving != left
	return r.serving
}

// GiveRaw is called when the client turns out not to speak HTTP/2.
func (r *Relay) GiveRaw() { r.raw.Store(true) }

// listen deals with the client's bytes until there are no more, or none that make sense.
func (r *Relay) listen() error {
	for {
		if err := r.requests.hear(); err != nil {
			return err
		}
		if err := r.client.Fill(); err != nil {
			return err
		}
	}
}

// settle pays what is due after a batch of the client's frames.
func (q *requests) settle() error {
	q.mu.Lock()
	q.lockedRepay()
	aborted, ended := q.aborted, len(q.ended) > 0
	q.mu.Unlock()
	if ended {
		q.tell()
	}
	if aborted {
		return errOver
	}
	// A client that is not reading is not heard any more either, as a server would have it.
	if q.toClient.waiting() > maxWaiting {
		return q.toClient.write(nil, false)
	}
	return nil
}

// endRequests is called when the client says no more.
func (r *Relay) endRequests() {
	// Half a frame is passed on as it is.
	if rest := r.client.Bytes(); len(rest) > 0 && !r.isRewritten() {
		_ = r.toOriginal.write(rest, false)
		r.client.Discard(len(rest))
	}
	_ = r.toOriginal.write(nil, false)
	r.original.CloseWrite()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = true
	r.change.Broadcast()
	r.lockedCancelUnasked()
	if r.shown {
		r.lockedDone()
	}
	r.lockedOver()
}

func (r *Relay) isRewritten() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rewritten
}

// ServeOriginal hands on what the original says until it says no more, and begins with what was read of it already. err, if not
// nil, is how it has ended. If there is no HTTP/2 with the client it returns how the original has ended; else nil.
func (r *Relay) ServeOriginal(err error) error {
	for {
		if r.answers.hear() != nil {
			if !r.isDeaf() {
				r.abort() // the client is gone
			}
			return nil
		}
		if err != nil {
			return r.endAnswers(err)
		}
		err = r.original.Fill()
	}
}

// endAnswers is called when nothing more comes from the original.
func (r *Relay) endAnswers(err error) error {
	if rest := r.original.Bytes(); len(rest) > 0 && !r.isRewritten() {
		_ = r.toClient.write(rest, true) // nothing may follow half a frame
		r.original.Discard(len(rest))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving = left
	if !r.serving {
		return err
	}
	if !errors.Is(err, io.EOF) {
		r.cause = err
	}
	if r.stolen > 0 && r.toClient.isInside() {
		r.lockedGo(r.abort) // in the middle of a frame, nobody else can speak any more
	} else if r.stolen > 0 {
		r.lockedSurvive()
	}
	r.change.Broadcast()
	r.lockedPassWanting()
	r.lockedOver()
	return nil
}

// lockedSurvive lets stolen streams go on without the original: the client learns that there will be no new ones, and what of the
// others will have no answer.
func (r *Relay) lockedSurvive() {
	r.cause = nil // A reset could overtake the last answers.
	if last := r.last; r.said > last {
		r.said = last
		r.toClient.add(func(b []byte) []byte { return appendGoAway(b, last, http2.ErrCodeNo, "") })
	}
	for id, s := range r.streams {
		if s.theft == nil {
			r.toClient.add(func(b []byte) []byte { return appendReset(b, id, http2.ErrCodeInternal) })
			r.lockedRemove(s)
		}
	}
}

// lockedGoAway makes the original's last words true of stolen streams too.
func (a *answers) lockedGoAway(payload []byte) {
	at := word(payload)
	last := at
	if a.rewritten && at < max(a.passed, a.last) {
		last = 0
		for id, s := range a.streams {
			if s.theft != nil || s.at <= at {
				last = max(last, id)
			}
		}
		for id, s := range a.streams {
			if s.theft == nil && s.at > at && id <= last {
				a.toClient.add(func(b []byte) []byte { return appendReset(b, id, http2.ErrCodeRefusedStream) })
				a.lockedRemove(s)
			}
		}
		last = max(last, min(at, a.last))
		binary.BigEndian.PutUint32(payload, last)
	}
	a.said, a.takes = min(a.said, last), min(a.takes, at)
}

// lockedOver looks whether the connection is at an end. Servers drop a client that has said its last word, with all that it still
// waits for; when the original has done so, the locals do.
func (r *Relay) lockedOver() {
	if r.silent && r.leaving == left && !r.aborted {
		for _, s := range r.streams {
			if s.theft != nil {
				r.lockedLeave(s, http2.ErrCodeCancel)
				r.lockedReport(s)
				r.lockedRemove(s)
			}
		}
	}
	switch {
	case r.aborted || r.ending:
	case r.leaving == left && r.stolen == 0 && r.cause != nil:
		r.ending = true
		r.lockedGo(r.abort)
	case r.leaving == left && r.stolen == 0:
		r.ending = true
		r.lockedGo(func() { r.show(nil, windingUp) })
	case r.retiring && len(r.streams) == 0:
		r.ending, r.deaf = true, true
		words := appendGoAway(nil, r.last, http2.ErrCodeNo, "")
		r.lockedGo(func() { r.show(words, lingering) })
	}
}

// show ends our side of the client's connection with these words. The client has so long to end its own.
func (r *Relay) show(words []byte, patience time.Duration) {
	if words != nil {
		r.toClient.add(func(b []byte) []byte { return append(b, words...) })
	}
	r.mu.Lock()
	if !r.aborted {
		r.timer = time.AfterFunc(windingUp, r.abort) // if it does not even read
	}
	r.mu.Unlock()
	_ = r.toClient.write(nil, false)
	r.client.CloseWrite()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shown = true
	if r.silent {
		r.lockedDone()
	} else if !r.aborted {
		r.timer.Reset(patience)
	}
}

// retire tells the client to go when the port was given up, after a request.
func (r *Relay) retire() {
	if r.config.Retired == nil || !r.config.Retired() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.retiring || r.leaving == left || r.raw.Load() {
		return
	}
	r.retiring = true
	r.toClient.add(func(b []byte) []byte { return appendGoAway(b, maxWindow, http2.ErrCodeNo, "") })
}

// abort ends everything at once, so that nobody takes it for a proper end. Safe for concurrent use.
func (r *Relay) abort() {
	r.mu.Lock()
	r.aborted = true
	r.change.Broadcast()
	r.lockedDone()
	r.mu.Unlock()
	r.client.Reset()
	r.original.Reset()
}

func (r *Relay) lockedDone() {
	select {
	case <-r.over:
	default:
		close(r.over)
	}
}

// shut closes what there is, and waits for it.
func (r *Relay) shut() {
	r.mu.Lock()
	r.aborted = true
	if r.timer != nil {
		r.timer.Stop()
	}
	for _, l := range r.locals {
		l.lockedKill(errOver)
	}
	r.closed = true
	r.change.Broadcast()
	r.mu.Unlock()
	_ = r.client.Close()
	_ = r.original.Close()
	r.toClient.close()
	r.toOriginal.close()
	r.work.Wait()
	r.tell()
}

// lockedGo has something done that shut waits for. Once that waits there is nothing left to do: the original's reader may end later still.
func (r *Relay) lockedGo(f func()) {
	if !r.closed {
		r.work.Go(f)
	}
}

func (r *Relay) isDeaf() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deaf
}

package h2

// windows are those of the whole connection, in one direction. The sink takes what passes and what sessions send beside it.
type windows struct {
	sink int64 // what may still be sent to it

	// Towards the original: what the client is owed for bytes that were stolen, and what the original has been sent twice.
	owed, overdrawn int64
	// Towards the client: what sessions have taken of the original's share.
	borrowed int64
}

// lockedStolen notes n bytes of the client that the original never sees.
func (r *Relay) lockedStolen(n int) { r.up.owed += int64(n) }

// lockedRepay gives back to the client what it sent to sessions, unless too much of it is stuck.
func (r *Relay) lockedRepay() {
	n := r.up.owed
	credit := r.up.sink - n // of the client
	if n == 0 || n < grantFrom && credit > grantFrom || r.stuck > maxStuck {
		return
	}
	r.up.owed = 0
	r.toClient.add(func(b []byte) []byte { return appendWindowUpdate(b, 0, n) })
}

// lockedOpened notes that the original takes n bytes more, and returns how much of that the client must hear.
func (w *windows) lockedOpened(n int64) int64 {
	w.sink += n
	back := min(n, w.overdrawn)
	w.overdrawn -= back
	return n - back
}

// lockedReturned notes that the client takes n bytes more, and returns how much of that the original must hear.
func (w *windows) lockedReturned(n int64) int64 {
	w.sink += n
	back := min(n, w.borrowed)
	w.borrowed -= back
	return n - back
}

// lockedLend takes up to n bytes of the client's window for a session. What it takes of the original's share waits in nobody's
// memory: the original's bytes stay in its socket until the client has given more.
func (w *windows) lockedLend(n int) int {
	n = int(max(0, min(int64(n), w.sink)))
	w.sink -= int64(n)
	w.borrowed += int64(n)
	return n
}

// lockedAwaitRoom waits until the original takes n bytes of what passes. It is in want only when it was sent what a session had lost.
func (q *requests) lockedAwaitRoom(n int) error {
	q.mu.Unlock()
	q.handOn()
	q.mu.Lock()
	for q.up.overdrawn > 0 && q.up.sink < int64(n) && q.leaving != left {
		if q.aborted {
			return errOver
		}
		q.change.Wait()
	}
	if q.leaving == left {
		q.up.overdrawn = 0
	}
	return nil
}

// lockedWants reports whether n bytes of the original must wait because sessions have borrowed of the client's window. An original
// that overruns its own is the client's to judge.
func (r *Relay) lockedWants(n int) bool {
	w := &r.down
	return w.sink < int64(n) && int64(n) <= w.sink+w.borrowed && !r.silent && !r.aborted
}

// lockedAwaitClient waits until the client takes n bytes of what passes.
func (a *answers) lockedAwaitClient(n int) {
	a.mu.Unlock()
	_ = a.handOn() // which fails again at the end
	a.mu.Lock()
	for a.lockedWants(n) {
		a.change.Wait()
	}
}

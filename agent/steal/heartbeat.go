package steal

import "time"

const (
	// beatEvery leaves room for four lost beats before the program lets connections pass (STALE_NS in steal.c).
	beatEvery = 100 * time.Millisecond
	// forgetEvery is how often the addresses of closed connections are gone through.
	forgetEvery = time.Second
)

// runHeartbeat tells the kernel that we are well. Whoever stops us, stops it; and we stop it ourselves when connections wait in vain.
func (r *Redirect) runHeartbeat() {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	had := true
	for {
		select {
		case <-r.done:
			return
		case <-tick.C:
			if r.stuck() {
				continue
			}
			room, err := r.sources.beat()
			if err != nil {
				r.log.Warn("no heartbeat: connections pass", "err", err)
			}
			if had && !room {
				r.log.Warn("too many connections pass through: new ones pass by")
			}
			had = room
		}
	}
}

func (r *Redirect) stuck() bool {
	for _, l := range r.listeners {
		if l.stuck() {
			return true
		}
	}
	return false
}

func (r *Redirect) runForget() {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return
		case now := <-tick.C:
			if err := r.sources.expire(now); err != nil {
				r.log.Warn("cannot forget closed connections", "err", err)
			}
		}
	}
}

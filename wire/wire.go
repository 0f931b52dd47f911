// Package wire is what travels between client and agent: carriers over any byte pipe, streams inside them, calls,
// and errors that keep their errno. docs/PROTOCOL.md is its law. It never decides what a stream is good for.
package wire

import "time"

// Protocol is the version in the preamble. Another one means: these two cannot talk.
const Protocol = 1

// Bounds, with their reasons in PROTOCOL.md.
const (
	streamWindow = 4 << 20   // 40 MB/s at a round trip of 100 ms
	maxFrame     = 64 << 10  // so that small answers pass large bodies
	maxBacklog   = 1024      // streams that wait to be accepted
	maxStreams   = 16 << 10  // open streams per carrier
	maxRetained  = 256 << 10 // bytes that go through a stream before its buffer is given back
	maxMessage   = 1<<16 - 1 // what a 2-byte length can say
	maxDatagram  = 65527     // the largest UDP payload over IPv6
	maxRequest   = 64 << 10  // a ttrpc request: the longest is a filter
	maxAnswer    = 4 << 20   // a ttrpc answer: environments and hosts files fit, and ttrpc allows no more
	callOverhead = 1 << 10   // what ttrpc wraps around a message
	maxCalls     = 64        // calls that run at once per stream
)

// limits are how long a carrier waits. They are one struct so that tests need not wait as long.
type limits struct {
	greet   time.Duration // a foreign peer that says nothing is found out by then
	open    time.Duration // an Open that is not there by then is not coming
	ping    time.Duration
	silence time.Duration // three pings without any byte
}

var standard = limits{greet: 10 * time.Second, open: 10 * time.Second, ping: 5 * time.Second, silence: 15 * time.Second}

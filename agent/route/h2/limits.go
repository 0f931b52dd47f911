package h2

import "time"

const (
	// maxBlock is what the frames of a header block may take: what a Conn has room for.
	maxBlock = 64 << 10
	// maxList and maxFields bound what a header block becomes when it is decoded: a few bytes can stand for much.
	maxList   = 256 << 10
	maxFields = 1000
	// maxStreams is how many open streams we keep books of. It is far above what servers allow (100 to 10,000).
	maxStreams = 64 << 10
	// maxTable is the largest table for header compression that we keep for either side.
	maxTable = 64 << 10
	// plainTable is the table that everybody has before settings say otherwise (RFC 9113 section 6.5.2).
	plainTable = 4 << 10
	// plainWindow is the window before anything was said (RFC 9113 section 6.9.2).
	plainWindow = 64<<10 - 1
	// maxWindow is where a window overflows.
	maxWindow = 1<<31 - 1
	// maxOwed is what the client may send on one stolen stream before the local process has taken any: the round trip
	// of a client that is far away holds no more.
	maxOwed = 1 << 20
	// maxStuck is what may wait for slow local processes on one connection before the client may send no more on it.
	maxStuck = 16 << 20
	// localWindow is what a local process may send ahead of what the client has taken.
	localWindow = 1 << 20
	// grantFrom is from how many bytes on a connection's window is given back. It is well below the smallest window.
	grantFrom = 16 << 10
	// maxKept is how much of a request is kept for asking somebody else, or for a filter to look at. Every window has room for it.
	maxKept = plainWindow
	// maxWaiting is what may wait to be written to a peer who does not read, before those who talk to it wait too.
	maxWaiting = 1 << 20
	// keptMemory is what an idle connection keeps for its next frames.
	keptMemory = 64 << 10
	// maxUnacked is how many settings may be without their acknowledgement.
	maxUnacked = 1000
	// maxSettings is how many different settings of a client are handed on to local processes.
	maxSettings = 32
	// maxLocals is how many connections to local processes one client connection may have: each takes 100 requests or more.
	maxLocals = 128
	// modestStreams is how many streams a peer is given before it has said how many it takes (RFC 9113 section 6.5.2).
	modestStreams = 100
	// keptSkips is how often a client may leave out numbers of streams and be told so when it comes back to them.
	keptSkips = 16
	// batch is about how much is written in one piece.
	batch = 64 << 10

	// heldFor is how long after its head a body may take to come that a filter has to see, as in HTTP/1.
	heldFor = time.Second
	// windingUp is how long a client may stay silent after the original has ended the connection, as in HTTP/1.
	windingUp = 60 * time.Second
	// lingering is how long a client whose connection we end may go on sending, so that a reset does not overtake the last frames.
	lingering = 2 * time.Second
)

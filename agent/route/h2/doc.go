// Package h2 relays the frames of one HTTP/2 connection between a client, the original and the local processes of sessions,
// stream by stream. It never changes what passes while nothing was stolen on the connection, nor answers for an original that
// can be reached.
//
// # Passing
//
// Header blocks of the client are held until they are whole and decoded, for the decoder must see them all; then the very bytes
// go on, as all other frames do. What nobody can follow makes the connection raw. Two settings are lowered on the way: the
// original's SETTINGS_INITIAL_WINDOW_SIZE to 1 MiB, which each stream that passes gets back by a window update, and either side's
// SETTINGS_HEADER_TABLE_SIZE to 64 KiB.
//
// # Stealing
//
// From the first theft on the original does not know the client's table: header blocks to it are encoded anew, other frames still
// go as they came. A request that goes to the original later than one with a higher number, because a session lost it or a filter
// had to see its body, gets a number of its own there. All that the original says goes to the client as it came, but for such
// numbers; so answers of sessions are encoded without touching the client's table.
//
// Each session has a connection of its own, more if its local process takes few streams at once. Streams have their flow control
// from end to end. The window of the connection is shared: what the client sends to sessions it gets back at once, unless 16 MiB
// are stuck on their way; what sessions send to the client is borrowed from the original, whose bytes wait in its socket when
// the client's window is used up.
//
// Pings go to the original, except those that a client sends because of a session's answers: servers count them.
//
// # Asking twice
//
// The rules are those of package route, for streams: REFUSED_STREAM, and a GOAWAY below the stream, say that a request was not
// looked at; any other reset is an answer. A request is kept as far as 64 KiB, all requests together as far as 16 MiB. For gRPC the
// answer that names Magpie is status 14 (unavailable), for others 502.
//
// # Ends
//
// Streams of sessions outlive the original: the client learns by GOAWAY that there will be no new ones. A client that says no more
// has gone once the original, which sees that too, has closed. When the port was given up the client is told to go (GOAWAY 2^31-1),
// and the connection ends when no stream is open.
package h2

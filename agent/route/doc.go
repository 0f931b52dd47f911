// Package route decides who answers, request by request, on one client connection: the original, or the session whose claim matches.
// It never changes a byte of what it forwards, save for the Connection field of the last answer when a port is let go, and for what
// is said below of 100 Continue and of h2c.
//
// # Reading
//
// An HTTP/1 head is parsed for framing and filter and then forwarded as it came. Bytes that are no HTTP/1 request, and framing
// that two parsers could read differently (see [Proxy.Serve] and head.go), make the connection raw: from that request's first
// byte on it belongs to the party that serves what no filter wants, both ways, and is not looked at again. Host is not framing;
// nothing here reads it, and a missing or second one is the answering party's to judge. One empty line between two requests, as old
// clients send it (RFC 9112 section 2.2), follows the request before it, unless that was a session's.
//
// # Bodies
//
// A request for which the filter whose turn it is has to see the body waits in our buffer until it is whole: at most 64 KiB of
// head and body, and 1 s from the head on. Filters see the body without chunks, and inflated (gzip, deflate) to at most 64 KiB.
// Of what is longer, slower, coded otherwise, or ends before its end, nothing is known, and it goes to whom the head alone leads. The bytes
// that are forwarded are those that came. Nothing else waits: not earlier answers, and no other connection.
//
// A client that expects 100 Continue before it sends such a body is told so by us, and the first 100 of whoever answers then is
// left out. That is the only thing that we ever say for somebody else.
//
// # Upgrade
//
// A request with Upgrade or CONNECT goes on as it came, and what follows it waits for the answer: after 101, or 2xx to CONNECT, the
// connection belongs to who gave it. A wish for HTTP/2 (h2c) is taken from the head of a request that a session gets, with HTTP2-Settings and the Connection
// options that name them: granted, the session would have the connection with everybody's requests on it.
//
// # Asking twice
//
// A request that a session cannot answer goes to the original when all its bytes are still in our buffer (64 KiB) and
//
//   - it was never accepted: Claim.Open failed, nothing could be written, or the stream ended in an errno that only a
//     connection that never was can yield (ECONNREFUSED, EHOSTUNREACH, ENETUNREACH), whatever the method; or
//   - the stream ended before the first byte of an answer and the method is safe (RFC 9110 section 9.2.1: GET, HEAD, OPTIONS,
//     TRACE), so that having been asked twice is as having been asked once.
//
// When the stream had served an earlier request, its end may be the local process closing an idle connection at the same
// moment (RFC 9112 section 9.3.1): an idempotent request (RFC 9110 section 9.2.2: the safe ones, PUT, DELETE) is then sent once more to the same
// session on a new stream. PUT and DELETE are never repeated on the original: two servers would have acted.
// In all other cases the client gets 502 with a body that names Magpie and the session.
package route

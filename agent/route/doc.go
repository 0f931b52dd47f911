// Package route decides who answers, request by request, on one client connection: the original, or the session whose claim matches.
// It never changes a byte of what it forwards, save for the one Connection field that DESIGN allows when a port is let go.
//
// # Reading
//
// An HTTP/1 head is parsed for framing and filter and then forwarded as it came. Bytes that are no HTTP/1 request, and framing
// that two parsers could read differently (see [Proxy.Serve] and head.go), make the connection raw: from that request's first
// byte on it belongs to the party that serves what no filter wants, both ways, and is not looked at again. Host is not framing;
// nothing here reads it, and a missing or second one is the answering party's to judge.
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

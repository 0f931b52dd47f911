// Package local speaks to a local process in the protocol that it asked for, where the client speaks another: HTTP/1 with a client
// of HTTP/2, and the other way round. It never speaks for the local process, save for what cannot be said in its protocol; and what
// it cannot deliver it gives back, so that its caller can ask someone else.
//
// # What changes on the way
//
// Requests and answers are read and written again: the case and order of header names is lost between HTTP/1 and HTTP/2 anyhow.
// Nothing is added: no X-Forwarded-For, no Via, no Date, no guess at a Content-Type. Bodies are untouched and stream both ways, trailers and 1xx
// answers go along. Trailers of a request must be announced by a Trailer field. A client of HTTP/2 that waits for 100 (Continue) gets it
// from us, at once.
//
// # What cannot be said
//
// HTTP/1 cannot carry gRPC, which gets status 12 (unimplemented). HTTP/2 knows no Upgrade: an upgrade to WebSocket gets 502, any
// other, which a server may ignore, is left out. CONNECT gets 502. A request target that is no URL, as /100%, gets 400 in HTTP/1 and
// a reset in HTTP/2, because net/http cannot carry it. Without a Host the local process is called "local".
package local

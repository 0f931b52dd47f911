package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// protocolHTTP2 is HTTP/2 in ALPN (RFC 7301). HTTP/1.1 needs no agreement: it is what is spoken without one.
const protocolHTTP2 = "h2"

// Encrypted is an incoming connection whose local process speaks TLS: what it reads and writes is encrypted, what the agent gets is
// what is inside. The agent hears that the local process has the connection once they have shaken hands. It is safe for concurrent use as a
// net.Conn is.
type Encrypted struct {
	in        Incoming
	engine    *tls.Conn
	protocols []string
	out, back *tube // to the local process, and from it
	work      sync.WaitGroup
	shook     atomic.Bool
	failed    func(error)   // told why they did not
	delivered chan struct{} // closed when all that the local process said is with the agent
}

// Encrypt shakes hands with the local process as the client that came: with the name and the protocol that it asked for. The
// certificate of the process is not verified: it is the developer's own, and nothing but memory and loopback lies between. Why a process does not shake
// hands is said once: requests that the original may have instead would not tell.
func (c *Claim) Encrypt(in Incoming) *Encrypted {
	return encrypt(in, in.hello.GetServerName(), in.hello.GetProtocols(), func(err error) { c.session.sayOnce("note", err.Error()) })
}

func encrypt(in Incoming, serverName string, protocols []string, failed func(error)) *Encrypted {
	e := &Encrypted{in: in, protocols: protocols, out: newTube(), back: newTube(), delivered: make(chan struct{}), failed: failed}
	e.engine = tls.Client(&tubes{e}, &tls.Config{
		ServerName: serverName, NextProtos: protocols,
		InsecureSkipVerify: true, //nolint:gosec // see above
	})
	e.work.Go(e.deliver)
	e.work.Go(e.fetch)
	return e
}

// deliver shakes hands, and then brings what the local process says to the agent.
func (e *Encrypted) deliver() {
	defer close(e.delivered)
	if err := e.shake(); err != nil {
		if e.in.Stream.Refuse(err) == nil { // the agent hears it from us, and from nobody before
			e.failed(err)
		}
		e.out.end() // its alert is still to be read
		return
	}
	e.shook.Store(true)
	if err := e.in.Accepted(); err != nil {
		e.fail(err)
		return
	}
	_, err := io.Copy(e.in, struct{ io.Reader }{e.engine})
	if err == nil {
		err = e.in.CloseWrite()
	}
	if err != nil {
		e.fail(err)
	}
}

func (e *Encrypted) shake() error {
	err := e.engine.Handshake()
	if err != nil {
		return noTLS(err)
	}
	if got := e.engine.ConnectionState().NegotiatedProtocol; len(e.protocols) == 1 && e.protocols[0] == protocolHTTP2 && got != protocolHTTP2 {
		return unfit("the local process does not speak HTTP/2 over TLS, which the client asks for; --local-protocol h1 if it speaks plain HTTP/1.1")
	}
	return nil
}

func noTLS(err error) error {
	const hint = "; --local-protocol h1 or h2c if it speaks plain HTTP"
	var other tls.RecordHeaderError
	switch {
	case errors.As(err, &other):
		return unfit("the local process does not speak TLS" + hint)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return unfit("the local process closed the connection when TLS began" + hint)
	}
	return unfit(fmt.Sprintf("the local process does not shake hands in TLS: %v", err))
}

// unfit is what the agent, and whoever gets its 502, reads in one line.
func unfit(cause string) error { return &wire.Error{Errno: syscall.EPROTO, Cause: cause} }

// fetch brings what the agent sends to the local process. It begins before the handshake is over, so that a client that goes away is seen.
func (e *Encrypted) fetch() {
	_, err := io.Copy(shaken{e}, e.in)
	if err == nil {
		if _, err = (shaken{e}).Write(nil); err == nil {
			err = e.engine.CloseWrite()
		}
	}
	switch {
	case err == nil:
		e.out.end()
	case !errors.Is(err, errUnshaken):
		e.fail(err)
	}
}

// shaken writes to the local process once they have shaken hands.
type shaken struct{ *Encrypted }

// errUnshaken leaves the word to deliver, which knows more.
var errUnshaken = errors.New("no handshake")

func (s shaken) Write(b []byte) (int, error) {
	if s.engine.Handshake() != nil {
		return 0, errUnshaken
	}
	return s.engine.Write(b)
}

// fail breaks both sides.
func (e *Encrypted) fail(err error) {
	e.out.fail(err)
	e.back.fail(err)
	e.in.Reset(errnoOf(err))
}

func errnoOf(err error) syscall.Errno {
	errno := syscall.ECONNRESET
	_ = errors.As(err, &errno)
	return errno
}

// Read reads what is for the local process.
func (e *Encrypted) Read(b []byte) (int, error) { return e.out.Read(b) }

// Write takes what the local process said.
func (e *Encrypted) Write(b []byte) (int, error) { return e.back.Write(b) }

// CloseWrite says that the local process said all, and returns when the agent has it.
func (e *Encrypted) CloseWrite() error {
	e.back.end()
	<-e.delivered
	return nil
}

// Close ends both directions. Without CloseWrite before, the local process broke off: so it is for the client.
func (e *Encrypted) Close() error {
	select {
	case <-e.delivered:
		_ = e.in.Close()
		e.out.fail(net.ErrClosed)
	default:
		e.out.fail(syscall.ECONNRESET)
		e.back.fail(syscall.ECONNRESET)
		if e.shook.Load() { // else the end of the handshake has its own words for the agent
			e.in.Reset(syscall.ECONNRESET)
		}
	}
	e.work.Wait()
	return nil
}

// Refuse gives the connection back: the request goes to the original. Once they have shaken hands it is too late, and it breaks.
func (e *Encrypted) Refuse(why syscall.Errno) {
	_ = e.in.Stream.Refuse(why)
	e.out.fail(why)
	e.back.fail(why)
	e.work.Wait()
}

// LocalAddr is what the client dialled.
func (e *Encrypted) LocalAddr() net.Addr { return e.in.LocalAddr() }

// RemoteAddr is the client.
func (e *Encrypted) RemoteAddr() net.Addr { return e.in.RemoteAddr() }

// SetDeadline is not supported: whoever relays closes.
func (e *Encrypted) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline is not supported.
func (e *Encrypted) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline is not supported.
func (e *Encrypted) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// tubes are the two of a connection as its TLS sees them.
type tubes struct{ *Encrypted }

func (t *tubes) Read(b []byte) (int, error)  { return t.back.Read(b) }
func (t *tubes) Write(b []byte) (int, error) { return t.out.Write(b) }

// Close is called by nobody who means the connection.
func (t *tubes) Close() error { return nil }

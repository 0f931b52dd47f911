package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"
)

const (
	magic        = "magpie"
	preambleSize = len(magic) + 2
)

// preamble is what each side sends first.
func preamble() []byte {
	return binary.BigEndian.AppendUint16([]byte(magic), Protocol)
}

// A role is the side of a carrier that we are.
type role struct{ we, peer string }

var (
	clientRole = role{"client", "agent"}
	agentRole  = role{"agent", "client"}
)

// readPreamble reads the peer's preamble, and nothing after it. Its errors are lines for the user.
func readPreamble(r io.Reader, us role) error { return readGreeting(r, magic, us) }

// readGreeting reads a magic and the protocol version.
func readGreeting(r io.Reader, magic string, us role) error {
	var got [preambleSize]byte
	n, err := io.ReadFull(r, got[:])
	switch {
	case n > 0 && string(got[:min(n, len(magic))]) != magic[:min(n, len(magic))]:
		return &Error{
			Errno:  syscall.EPROTO,
			Cause:  fmt.Sprintf("not a Magpie %s: it said %q", us.peer, got[:n]),
			Advice: "something else listens there",
		}
	case errors.Is(err, io.EOF):
		return &Error{Errno: syscall.ECONNRESET, Cause: us.peer + " closed the connection before it said anything"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Errno: syscall.ECONNRESET, Cause: us.peer + " closed the connection in the middle of its first word"}
	case err != nil:
		return fmt.Errorf("greet %s: %w", us.peer, err)
	}
	if v := binary.BigEndian.Uint16(got[len(magic):]); v != Protocol {
		return &Error{
			Errno:  syscall.EPROTONOSUPPORT,
			Cause:  fmt.Sprintf("%s speaks protocol %d, this %s %d", us.peer, v, us.we, Protocol),
			Advice: "update the older of the two",
		}
	}
	return nil
}

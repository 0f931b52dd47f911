package wire

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
)

const (
	bondMagic      = "magbon"
	bondHeaderSize = len(bondMagic) + 2 + len(bondID{}) + 2
)

// A bondID tells the bonds of an agent apart. Only the client that made it up can add pipes.
type bondID [16]byte

func newBondID() (id bondID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// A bondHeader is what the client says first on each pipe of a bond; magic and version come before.
type bondHeader struct {
	id           bondID
	index, count byte
}

func (h bondHeader) append(b []byte) []byte {
	b = append(b, bondAnswer()...)
	b = append(b, h.id[:]...)
	return append(b, h.index, h.count)
}

// bondAnswer is what the agent says first on each pipe of a bond.
func bondAnswer() []byte {
	return binary.BigEndian.AppendUint16([]byte(bondMagic), Protocol)
}

func readBondAnswer(r io.Reader) error { return readGreeting(r, bondMagic, clientRole) }

func readBondHeader(r io.Reader) (h bondHeader, err error) {
	if err := readGreeting(r, bondMagic, agentRole); err != nil {
		return h, err
	}
	var b [bondHeaderSize - preambleSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return h, fmt.Errorf("read bond header: %w", err)
	}
	n := copy(h.id[:], b[:])
	h.index, h.count = b[n], b[n+1]
	if h.count == 0 || h.count > maxPipes || h.index >= h.count {
		return h, fmt.Errorf("read bond header: pipe %d of %d", h.index, h.count)
	}
	return h, nil
}

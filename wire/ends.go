package wire

import (
	"syscall"

	"github.com/hashicorp/yamux"
)

// endsID is the stream on which both sides say how other streams end. The client opens it before any other.
const endsID = 1

// followEnds sets the ends stream up and acts on what comes there, until the carrier is over.
func (c *Carrier) followEnds() {
	var err error
	if c.us == clientRole {
		c.ends, err = c.session.OpenStream()
		<-c.opening
	} else {
		c.ends, err = c.session.AcceptStream()
	}
	if err != nil {
		return // the carrier is over
	}
	close(c.greeted)
	if err := c.readEnds(c.ends); err != nil && c.Err() == nil {
		c.end(err)
	}
}

func (c *Carrier) readEnds(ends *yamux.Stream) error {
	for {
		var e End
		if err := readMessage(ends, &e); err != nil {
			return err
		}
		s, _ := c.known(e.Stream)
		switch e.Kind {
		case EndKind_END_KIND_STOP:
			if s != nil {
				s.stop()
			}
		case EndKind_END_KIND_RESET:
			if s == nil {
				c.say(e.Stream, EndKind_END_KIND_RESET_SEEN, 0)
				continue
			}
			s.resetByPeer(errnoFromWire(e.Errno))
		case EndKind_END_KIND_RESET_SEEN:
			if s != nil {
				s.resetSeen()
			}
		}
	}
}

// say writes to the ends stream. Errors mean that the carrier is over, which all streams hear otherwise.
func (c *Carrier) say(id uint32, kind EndKind, errno syscall.Errno) {
	select {
	case <-c.greeted:
	case <-c.Done():
		return
	}
	message, err := appendMessage(nil, &End{Stream: id, Kind: kind, Errno: errnoToWire(errno)})
	if err != nil {
		panic("wire: " + err.Error()) // three numbers always fit
	}
	_, _ = c.ends.Write(message)
}

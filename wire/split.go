package wire

// splitter follows a sequence of frames, cut anywhere. A frame is a header of fixed size and a body. The zero value is
// at the start of one.
type splitter struct {
	header [max(frameHeader, callHeader)]byte
	have   int    // of the header
	body   uint32 // still to come
}

// scan calls frame with each header of size bytes that ends in b; frame tells how long the body is. The first error
// ends it.
func (s *splitter) scan(b []byte, size int, frame func(header []byte) (body uint32, err error)) (err error) {
	for len(b) > 0 {
		if s.body > 0 {
			n := min(uint64(s.body), uint64(len(b)))
			s.body -= uint32(n)
			b = b[n:]
			continue
		}
		n := copy(s.header[s.have:size], b)
		s.have, b = s.have+n, b[n:]
		if s.have < size {
			return nil
		}
		s.have = 0
		if s.body, err = frame(s.header[:size]); err != nil {
			return err
		}
	}
	return nil
}

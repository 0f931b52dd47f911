package wire

// Send writes one exchange on a watch stream.
func (s *Stream) Send(e *Exchange) error {
	message, err := appendMessage(nil, e)
	if err != nil {
		return err
	}
	_, err = s.Write(message)
	return err
}

// Receive reads the next exchange of a watch stream; io.EOF means that there will be none.
func (s *Stream) Receive() (*Exchange, error) {
	var e Exchange
	if err := readMessage(s, &e); err != nil {
		return nil, err
	}
	return &e, nil
}

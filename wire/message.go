package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"google.golang.org/protobuf/proto"
)

// maxText bounds each line of a Failure, so that it fits into any message whatever the cause quotes.
const maxText = 8 << 10

// appendMessage appends m with its 2-byte length.
func appendMessage(b []byte, m proto.Message) ([]byte, error) {
	start := len(b)
	b, err := proto.MarshalOptions{}.MarshalAppend(append(b, 0, 0), m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name(m), err)
	}
	size := len(b) - start - 2
	if size > maxMessage {
		return nil, fmt.Errorf("encode %s: %d bytes: %w", name(m), size, syscall.EMSGSIZE)
	}
	binary.BigEndian.PutUint16(b[start:], uint16(size))
	return b, nil
}

// readMessage reads one message and not a byte more. io.EOF means that there was none; a message that is cut off
// or does not decode is EPROTO.
func readMessage(r io.Reader, m proto.Message) error {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return cut(m, err)
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(r, b); errors.Is(err, io.EOF) {
		return cut(m, io.ErrUnexpectedEOF)
	} else if err != nil {
		return cut(m, err)
	}
	return decode(b, m)
}

func decode(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return &Error{Errno: syscall.EPROTO, Cause: fmt.Sprintf("read %s: %v", name(m), err)}
	}
	return nil
}

func cut(m proto.Message, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{Errno: syscall.EPROTO, Cause: fmt.Sprintf("read %s: cut off", name(m))}
	}
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return fmt.Errorf("read %s: %w", name(m), err)
}

func name(m proto.Message) string { return string(m.ProtoReflect().Descriptor().Name()) }

// clip makes s fit for a message: valid UTF-8, and not longer than maxText.
func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// readResumably is readMessage for a reader with deadlines: what came before an error stays in partial, and another
// call goes on from there.
func readResumably(r io.Reader, partial *[]byte, m proto.Message) error {
	for {
		want := 2
		if have := *partial; len(have) >= 2 {
			want += int(binary.BigEndian.Uint16(have))
			if len(have) == want {
				*partial = nil
				return decode(have[2:], m)
			}
		}
		have := slices.Grow(*partial, want-len(*partial))
		n, err := r.Read(have[len(have):want])
		*partial = have[:len(have)+n]
		if errors.Is(err, io.EOF) && len(*partial) > 0 {
			return cut(m, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
	}
}

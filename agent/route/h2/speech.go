package h2

import (
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/net/http2"
)

// read hands on what the local process says.
func (l *local) read() {
	for {
		err := l.hear()
		if err == nil {
			err = l.toClient.write(nil, false) // A slow client slows those who talk to it.
		}
		if err == nil {
			l.repay()
			l.tell()
			err = l.conn.Fill()
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// repay gives back to the local process what the client has taken.
func (l *local) repay() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lockedReturn()
}

func (l *local) lockedReturn() {
	if l.owed >= localWindow/4 {
		l.control = appendWindowUpdate(l.control, 0, int64(l.owed))
		l.credit += int64(l.owed)
		l.owed = 0
		l.wake.Signal()
	}
}

var errSpeech = errors.New("the local process does not speak HTTP/2 as it should")

// hear deals with what was read, frame by frame.
func (l *local) hear() error {
	for {
		rest := l.conn.Bytes()
		if len(rest) < headerLen {
			return nil
		}
		h := readHeader(rest)
		if h.length > plainFrame {
			return errSpeech
		}
		if !h.whole(rest) {
			return nil
		}
		n := headerLen + h.length
		if h.kind == http2.FrameHeaders {
			var err error
			if n, err = l.blocks.extent(rest); n == 0 || err != nil {
				return err
			}
			if err = l.blocks.decode(rest[:n], plainTable); err != nil {
				return err
			}
		}
		if err := l.frame(h, rest[headerLen:headerLen+h.length]); err != nil {
			return err
		}
		l.conn.Discard(n)
	}
}

func (l *local) frame(h header, payload []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.control) > maxWaiting {
		return errSpeech // it asks and asks, and does not read
	}
	switch h.kind {
	case http2.FrameHeaders:
		return l.lockedHead(h)
	case http2.FrameData:
		return l.lockedData(h, payload)
	case http2.FrameContinuation, http2.FramePushPromise:
		return errSpeech
	case http2.FrameSettings:
		return l.lockedSettings(h, payload)
	case http2.FramePing:
		if !h.has(flagAck) && h.length == 8 {
			l.control = append(appendHeader(l.control, header{8, http2.FramePing, flagAck, 0}), payload...)
			l.wake.Signal()
		}
	case http2.FrameGoAway:
		if h.length >= 8 {
			l.lockedGoesAway(word(payload))
		}
	case http2.FrameWindowUpdate:
		if h.length == 4 {
			return l.lockedOpens(h, int64(word(payload)))
		}
	case http2.FrameRSTStream:
		if s := l.streams[h.stream]; s != nil && h.length == 4 {
			l.lockedResets(s, http2.ErrCode(binary.BigEndian.Uint32(payload)))
		}
	}
	return nil
}

func (l *local) lockedSettings(h header, payload []byte) error {
	if h.has(flagAck) {
		return nil
	}
	eachSetting(payload, func(id http2.SettingID, v uint32) uint32 {
		switch id {
		case http2.SettingInitialWindowSize:
			for _, s := range l.streams {
				s.theft.up.sink += int64(v) - l.initial
				l.lockedReady(s)
			}
			l.initial = int64(v)
		case http2.SettingMaxConcurrentStreams:
			l.most = int(min(v, maxStreams))
		case http2.SettingHeaderTableSize:
			l.encoder.SetMaxDynamicTableSizeLimit(min(v, plainTable))
		}
		return v
	})
	l.control = appendHeader(l.control, header{0, http2.FrameSettings, flagAck, 0})
	l.wake.Signal()
	return nil
}

func (l *local) lockedOpens(h header, n int64) error {
	if h.stream != 0 {
		if s := l.streams[h.stream]; s != nil {
			s.theft.up.sink += n
			l.lockedReady(s)
		}
		return nil
	}
	if l.window += n; l.window > maxWindow {
		return errSpeech
	}
	for _, s := range l.blocked {
		if s.theft != nil && s.theft.local == l {
			s.theft.up.waits = false
			l.lockedReady(s)
		}
	}
	l.blocked = l.blocked[:0]
	return nil
}

func (l *local) lockedResets(s *stream, code http2.ErrCode) {
	if code == http2.ErrCodeRefusedStream && !s.theft.heard {
		l.lockedFail(s, errRefused, true)
		return
	}
	if s.theft.down.end && !s.answered { // All of the answer is here, and comes first.
		s.theft.quits, s.theft.quit = true, code
		s.theft.up.ended = true
		l.lockedLeave(s, code)
		return
	}
	id := s.id
	l.toClient.add(func(b []byte) []byte { return appendReset(b, id, code) })
	s.answered, s.theft.up.ended = true, true // It needs no answer to its reset.
	l.lockedLeave(s, code)
	l.lockedReport(s)
	l.lockedRemove(s)
	l.lockedOver()
}

var (
	errRefused = errors.New("the local process refused the request")
	errLeft    = errors.New("the local process closed the connection")
)

// lockedGoesAway is called when the local process takes no new requests. Those above last it has not looked at.
func (l *local) lockedGoesAway(last uint32) {
	l.leaving = true
	for at, s := range l.streams {
		if at > last {
			l.lockedFail(s, errLeft, true)
		}
	}
	for _, s := range slices.Clone(l.ready) {
		if s.theft != nil && s.theft.local == l && !s.theft.started {
			l.lockedFail(s, errLeft, true)
		}
	}
}

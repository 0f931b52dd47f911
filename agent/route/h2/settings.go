package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// settings are what the two ends have told each other, as it must be known in between.
type settings struct {
	// What the original has told the client.
	mostTable     uint32 // of all that it has said
	mostFrame     int
	originalTable uint32
	asked         promise   // as the client has acknowledged it
	askedLater    []promise // and as it will, one for each settings frame

	// What the client has told.
	told          []http2.Setting // all that locals must know, in order
	answered      promise         // as the original has acknowledged it
	answeredLater []promise
}

// A promise is what holds from an acknowledgement on.
type promise struct {
	window int64 // of new streams
	more   int64 // that the original takes beyond
	table  uint32
}

func (s *settings) init() {
	s.asked = promise{window: plainWindow, table: plainTable}
	s.answered = s.asked
	s.originalTable, s.mostTable, s.mostFrame = plainTable, plainTable, plainFrame
}

// eachSetting calls f for every setting of a payload. f may change the value.
func eachSetting(payload []byte, f func(id http2.SettingID, value uint32) uint32) {
	for ; len(payload) >= 6; payload = payload[6:] {
		id, v := http2.SettingID(binary.BigEndian.Uint16(payload)), binary.BigEndian.Uint32(payload[2:])
		if now := f(id, v); now != v {
			binary.BigEndian.PutUint32(payload[2:], now)
		}
	}
}

// lockedOriginal keeps what the original says, and lowers what would let a client send more than we can hold.
func (s *settings) lockedOriginal(payload []byte) {
	next := last(s.asked, s.askedLater)
	eachSetting(payload, func(id http2.SettingID, v uint32) uint32 {
		switch id {
		case http2.SettingInitialWindowSize:
			next.window = int64(min(v, maxOwed))
			next.more = int64(v) - next.window
			v = min(v, maxOwed)
		case http2.SettingHeaderTableSize:
			v = min(v, maxTable)
			s.originalTable = v
			s.mostTable = max(s.mostTable, v)
		case http2.SettingMaxFrameSize:
			s.mostFrame = max(s.mostFrame, int(v))
		}
		return v
	})
	s.askedLater = append(s.askedLater, next)
}

// lockedClient keeps what the client says, and lowers the table that we must follow.
func (s *settings) lockedClient(payload []byte) {
	next := last(s.answered, s.answeredLater)
	eachSetting(payload, func(id http2.SettingID, v uint32) uint32 {
		switch id {
		case http2.SettingInitialWindowSize:
			next.window = int64(v)
		case http2.SettingHeaderTableSize:
			next.table = v
			return min(v, maxTable)
		case http2.SettingEnablePush, http2.SettingMaxConcurrentStreams, http2.SettingMaxFrameSize:
			return v // Locals never push, and their frames are the small ones that everybody takes.
		}
		s.tell(http2.Setting{ID: id, Val: v})
		return v
	})
	s.answeredLater = append(s.answeredLater, next)
}

func (s *settings) tell(one http2.Setting) {
	for i := range s.told {
		if s.told[i].ID == one.ID {
			s.told[i].Val = one.Val
			return
		}
	}
	if len(s.told) < maxSettings {
		s.told = append(s.told, one)
	}
}

func last(now promise, later []promise) promise {
	if n := len(later); n > 0 {
		return later[n-1]
	}
	return now
}

// lockedClientAcks is called when the client acknowledges. It returns by how much the windows of open
// streams change.
func (s *settings) lockedClientAcks() (delta, more int64) {
	before := s.asked
	acknowledge(&s.asked, &s.askedLater)
	return s.asked.window - before.window, s.asked.more - before.more
}

// lockedOriginalAcks is the same for the original's acknowledgement.
func (s *settings) lockedOriginalAcks() (delta int64) {
	before := s.answered
	acknowledge(&s.answered, &s.answeredLater)
	return s.answered.window - before.window
}

// lockedAhead is how much more the client may send on a stream if it uses new settings before it has acknowledged them: some do.
func (s *settings) lockedAhead() (more int64) {
	for _, p := range s.askedLater {
		more = max(more, p.window-s.asked.window)
	}
	return more
}

// lockedPeek returns what the n-th acknowledgement of the original from now on changes.
func (s *settings) lockedPeek(n int) (before, after promise) {
	before = s.answered
	if n >= len(s.answeredLater) {
		return before, before
	}
	if n > 0 {
		before = s.answeredLater[n-1]
	}
	return before, s.answeredLater[n]
}

func acknowledge(now *promise, later *[]promise) {
	if len(*later) > 0 {
		*now = (*later)[0]
		*later = append((*later)[:0], (*later)[1:]...)
	}
}

// appendSettings appends the settings with which a local process is greeted.
func (s *settings) appendSettings(b []byte) []byte {
	b = appendHeader(b, header{6 * (1 + len(s.told)), http2.FrameSettings, 0, 0})
	b = appendSetting(b, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	for _, one := range s.told {
		b = appendSetting(b, one)
	}
	return b
}

func appendSetting(b []byte, one http2.Setting) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(one.ID)), one.Val)
}

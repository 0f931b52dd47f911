package local

import (
	"bytes"
	"io"
	"testing"

	"golang.org/x/net/http2"
)

// However the frames are cut, resets of unanswered streams change their code, and nothing else changes.
func TestOnlyResetsWithoutAnAnswerAreRefused(t *testing.T) {
	var sent bytes.Buffer
	w := http2.NewFramer(&sent, nil)
	_ = w.WriteSettings()
	_ = w.WriteRSTStream(1, http2.ErrCodeInternal)
	_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x88}, EndHeaders: true})
	_ = w.WriteData(3, false, []byte{0, 0, 4, 3, 0, 0, 0, 0, 5, 0, 0, 0, 2}) // looks like one
	_ = w.WriteRSTStream(3, http2.ErrCodeInternal)
	_ = w.WriteRSTStream(5, http2.ErrCodeNo)
	_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: 7, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true})
	_ = w.WriteRSTStream(9, http2.ErrCodeInternal)
	_ = w.WriteRSTStream(11, http2.ErrCodeCancel)
	for _, cut := range []int{1, 2, 3, 5, 9, 13, 1000} {
		theirs, ours := mustPipe()
		f := newFrames(ours)
		for rest := sent.Bytes(); len(rest) > 0; {
			n := min(cut, len(rest))
			before := bytes.Clone(rest[:n])
			if m, err := f.Write(rest[:n]); m != n || err != nil {
				t.Fatal(m, err)
			}
			if !bytes.Equal(before, rest[:n]) {
				t.Fatal("the writer's bytes were changed")
			}
			rest = rest[n:]
		}
		_ = f.Close()
		got, _ := io.ReadAll(theirs)
		want := bytes.Clone(sent.Bytes())
		for _, stream := range []byte{1, 9} {
			at := bytes.Index(want, []byte{0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 2})
			want[at+12] = 7
		}
		if !bytes.Equal(got, want) {
			t.Errorf("cut by %d:\n%x, want\n%x", cut, got, want)
		}
		if len(f.answered) > 0 {
			t.Errorf("%v are kept", f.answered)
		}
	}
}

func TestStreamsThatTheClientResetsAreForgotten(t *testing.T) {
	theirs, ours := mustPipe()
	f := newFrames(ours)
	r, w := http2.NewFramer(nil, f), http2.NewFramer(theirs, nil)
	answer := http2.NewFramer(f, nil)
	_, _ = io.WriteString(theirs, http2.ClientPreface)
	if _, err := io.ReadFull(f, make([]byte, len(http2.ClientPreface))); err != nil {
		t.Fatal(err)
	}
	for id := uint32(1); id < 2000; id += 2 {
		_ = answer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}, EndHeaders: true})
		_ = w.WriteRSTStream(id, http2.ErrCodeCancel)
		if _, err := r.ReadFrame(); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.answered) > 0 {
		t.Errorf("%d are kept", len(f.answered))
	}
}

package h2

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2"
)

// What is added for a client, such as a wider window, must not break into bytes that nobody divides into frames any more.
func TestNothingComesBetweenRawBytes(t *testing.T) {
	clientNear, clientFar := newWire(1 << 10)
	originalNear, originalFar := newWire(1 << 10)
	r := New(Config{}, clientNear, originalNear)
	settings := appendHeader(nil, header{0, http2.FrameSettings, 0, 0})
	data := appendData(nil, 1, []byte("an answer of which the first half comes first"), true)
	hear := func(b []byte) {
		t.Helper()
		if _, err := originalFar.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := originalNear.Fill(); err != nil {
			t.Fatal(err)
		}
		if err := r.answers.hear(); err != nil {
			t.Fatal(err)
		}
	}
	hear(settings)
	r.raw.Store(true) // the client has said what cannot be followed
	hear(data[:20])
	r.toClient.add(func(b []byte) []byte { return appendWindowUpdate(b, 1, 1<<20) })
	hear(data[20:])
	r.shut()
	clientNear.CloseWrite()
	if got, want := clientFar.said(), append(settings, data...); !bytes.Equal(got, want) {
		t.Errorf("the client heard\n%q\nof\n%q", got, want)
	}
}

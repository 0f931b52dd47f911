package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/magpie-k8s/magpie/filters"
)

// patience is how long a test waits for what must happen. It is long, for fuzzing may be at the idle priority of a busy machine.
const patience = time.Minute

// A way is one direction of a wire.
type way struct {
	mu     sync.Mutex
	change sync.Cond
	buf    []byte
	end    error // after buf
}

func newWay() *way {
	w := &way{}
	w.change.L = &w.mu
	return w
}

func (w *way) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end != nil {
		return 0, errors.New("write after the end")
	}
	w.buf = append(w.buf, b...)
	w.change.Broadcast()
	return len(b), nil
}

func (w *way) Read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buf) == 0 && w.end == nil {
		w.change.Wait()
	}
	if len(w.buf) == 0 {
		return 0, w.end
	}
	n := copy(b, w.buf)
	w.buf = w.buf[n:]
	return n, nil
}

func (w *way) finish(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end == nil {
		w.end = err
	}
	w.change.Broadcast()
}

var errReset = errors.New("reset by the other side")

// A wire is one end of two ways, as a Conn.
type wire struct {
	in, out *way
	step    int // how much one Fill reads
	buf     []byte
}

func newWire(step int) (near, far *wire) {
	a, b := newWay(), newWay()
	return &wire{in: a, out: b, step: step}, &wire{in: b, out: a, step: step}
}

func (w *wire) Write(b []byte) (int, error) { return w.out.Write(b) }
func (w *wire) Bytes() []byte               { return w.buf }
func (w *wire) CloseWrite()                 { w.out.finish(io.EOF) }

func (w *wire) Fill() error {
	room := make([]byte, min(w.step, maxBlock-len(w.buf)))
	if len(room) == 0 {
		panic("no room")
	}
	n, err := w.in.Read(room)
	w.buf = append(w.buf, room[:n]...)
	return err
}

func (w *wire) Discard(n int) { w.buf = append([]byte(nil), w.buf[n:]...) }

func (w *wire) Reset() {
	w.out.finish(errReset)
	w.in.finish(errReset)
}

func (w *wire) Close() error {
	w.out.finish(io.EOF)
	w.in.finish(errReset)
	return nil
}

// said returns all that the other side says until it ends.
func (w *wire) said() []byte {
	b, _ := io.ReadAll(w.in)
	return b
}

// babbler is a local process that says what it says, whatever it hears.
type babbler struct {
	says   string
	step   int
	stays  bool // it does not close when it has spoken
	wires  *sync.WaitGroup
	refuse error
}

func (b babbler) Session() string { return "me" }
func (b babbler) Gone() bool      { return false }
func (b babbler) Open(context.Context) (Conn, error) {
	if b.refuse != nil {
		return nil, b.refuse
	}
	near, far := newWire(b.step)
	b.wires.Go(func() {
		_, _ = far.Write([]byte(b.says))
		if !b.stays {
			far.CloseWrite()
		}
		far.said()
	})
	return near, nil
}

// mine chooses the requests whose path says so.
func mine(r *filters.Request) bool { return bytes.Contains(r.Path, []byte("mine")) }

func FuzzRelay(f *testing.F) {
	client, original, local := conversation()
	f.Add(client, original, local, uint8(0), false)
	f.Add(bytes.ReplaceAll(client, []byte("mine"), []byte("your")), original, local, uint8(7), false)
	f.Add(client, original, "", uint8(1), true)
	f.Add(bytes.ReplaceAll(client, []byte("mine"), []byte("your")), original, local, uint8(2), false)
	f.Add(weighed(), original, local, uint8(2), false)
	f.Add(weighed(), original, local, uint8(3), true)
	f.Add(client[:len(client)/2], original[:len(original)/2], local[:len(local)/2], uint8(9), false)
	f.Fuzz(func(t *testing.T, client, original []byte, local string, step uint8, refuses bool) {
		if len(client)+len(original)+len(local) > 1<<20 {
			return
		}
		relayOnce(t, client, original, local, max(1, int(step)*64), refuses)
	})
}

// relayOnce plays the client and the original that say these bytes.
func relayOnce(t *testing.T, client, original []byte, local string, step int, refuses bool) {
	var parts sync.WaitGroup
	waits := step%128 == 0 // the client, for the end of the others
	whom := babbler{says: local, step: step, wires: &parts, stays: !waits}
	if refuses {
		whom.refuse = errReset
	}
	var chosen atomic.Bool
	clientNear, clientFar := newWire(step)
	originalNear, originalFar := newWire(step)
	r := New(Config{Choose: func(r *filters.Request, final bool) (Local, bool) {
		switch {
		case bytes.Contains(r.Path, []byte("weigh")) && !final && !r.BodyKnown:
			chosen.Store(true)
			return nil, true
		case !mine(r) && !bytes.Contains(r.Body, []byte("mine")):
			return nil, false
		}
		chosen.Store(true)
		return whom, false
	}}, clientNear, originalNear)
	timer := time.AfterFunc(patience, func() {
		b := make([]byte, 1<<20)
		panic("hangs:\n" + string(b[:runtime.Stack(b, true)]))
	})
	defer timer.Stop()
	var heardByOriginal, heardByClient []byte
	parts.Go(func() { _ = r.ServeOriginal(nil) })
	parts.Go(func() { heardByOriginal = originalFar.said() })
	parts.Go(func() {
		heardByClient = clientFar.said()
		if waits {
			clientFar.CloseWrite()
		}
	})
	parts.Go(func() {
		_, _ = clientFar.Write(append([]byte(Preface), client...))
		if !waits {
			clientFar.CloseWrite()
		} else { // An answer may wait for its window for ever.
			defer time.AfterFunc(100*time.Millisecond, clientFar.CloseWrite)
		}
		_, _ = originalFar.Write(original)
		originalFar.CloseWrite()
	})
	if r.ServeClient(context.Background()) {
		parts.Wait()
	} else {
		clientNear.Reset()
		originalNear.Reset()
		parts.Wait()
		return
	}
	if chosen.Load() {
		return
	}
	if want := append([]byte(Preface), client...); !bytes.Equal(unset(want[len(Preface):]), unset(heardByOriginal[min(len(Preface), len(heardByOriginal)):])) {
		t.Errorf("the original heard\n%q\nof\n%q", heardByOriginal, want)
	}
	if !bytes.Equal(unset(original), unset(heardByClient)) {
		t.Errorf("the client heard\n%q\nof\n%q", heardByClient, original)
	}
}

// unset blanks the values of settings, some of which may differ, and forgets the window updates that a lowered window asks for.
func unset(b []byte) []byte {
	b = bytes.Clone(b)
	var out []byte
	for rest := b; len(rest) > 0; {
		if len(rest) < headerLen {
			return append(out, rest...)
		}
		h := readHeader(rest)
		n := min(len(rest), headerLen+h.length)
		if h.kind == http2.FrameSettings {
			clear(rest[headerLen:n])
		}
		if h.kind != http2.FrameWindowUpdate {
			out = append(out, rest[:n]...)
		}
		rest = rest[n:]
	}
	return out
}

// weighed is what a client says whose requests are judged by their bodies.
func weighed() []byte {
	var c, code bytes.Buffer
	framer, encoder := http2.NewFramer(&c, nil), hpack.NewEncoder(&code)
	for i, body := range []string{"mine", "your", "", "mine"} {
		id := uint32(2*i + 1)
		code.Reset()
		for _, f := range []hpack.HeaderField{{Name: ":method", Value: "PUT"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/weigh"}} {
			_ = encoder.WriteField(f)
		}
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: code.Bytes(), EndHeaders: true})
		_ = framer.WriteDataPadded(id, i != 3, []byte(body), make([]byte, i))
		_ = framer.WriteWindowUpdate(id, 9)
	}
	return c.Bytes()
}

// conversation returns what a client, an original and a local process may say to each other.
func conversation() (client, original []byte, local string) {
	var code bytes.Buffer
	encoder := hpack.NewEncoder(&code)
	encode := func(fields ...string) []byte {
		code.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		return bytes.Clone(code.Bytes())
	}
	request := func(path string) []byte {
		return encode(":method", "POST", ":scheme", "http", ":authority", "shop", ":path", path, "x-user", "me", "cookie", "a=b", "cookie", "c=d")
	}
	var c bytes.Buffer
	framer := http2.NewFramer(&c, nil)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 100})
	_ = framer.WriteWindowUpdate(0, 1<<20)
	for i, path := range []string{"/your", "/mine", "/your", "/mine/too"} {
		id := uint32(2*i + 1)
		block := request(path)
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:3], PadLength: 5})
		_ = framer.WriteContinuation(id, true, block[3:])
		_ = framer.WriteData(id, false, []byte("some"))
		_ = framer.WriteWindowUpdate(id, 100)
		_ = framer.WriteDataPadded(id, i%2 == 0, []byte("body"), make([]byte, 3))
		if i%2 == 1 {
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: encode("x-sum", "8"), EndStream: true, EndHeaders: true})
		}
	}
	_ = framer.WritePing(false, [8]byte{1, 2, 3})
	_ = framer.WriteRSTStream(3, http2.ErrCodeCancel)
	_ = framer.WriteSettingsAck()
	client = bytes.Clone(c.Bytes())

	answers := func(ids ...uint32) []byte {
		c.Reset()
		encoder = hpack.NewEncoder(&code)
		_ = framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})
		_ = framer.WriteSettingsAck()
		for _, id := range ids {
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: encode(":status", "103"), EndHeaders: true})
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: encode(":status", "200", "x-name", "value"), EndHeaders: true})
			_ = framer.WriteWindowUpdate(id, 10)
			_ = framer.WriteDataPadded(id, false, []byte("answer"), make([]byte, 3))
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: encode("x-sum", "8"), EndStream: true, EndHeaders: true})
		}
		_ = framer.WriteWindowUpdate(0, 1<<16)
		_ = framer.WriteGoAway(5, http2.ErrCodeNo, nil)
		return bytes.Clone(c.Bytes())
	}
	return client, answers(1, 5), string(answers(1, 3))
}

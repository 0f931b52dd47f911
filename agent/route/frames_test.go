package route

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/magpie-k8s/magpie/agent/route/h2"
)

// A talker speaks HTTP/2 frame by frame.
type talker struct {
	tb testing.TB
	*http2.Framer
	conn    net.Conn
	code    bytes.Buffer
	encoder *hpack.Encoder
}

func mustTalk(tb testing.TB, addr string, settings ...http2.Setting) *talker {
	tb.Helper()
	conn := mustDial(tb, addr)
	k := newTalker(tb, conn)
	if _, err := io.WriteString(conn, h2.Preface); err != nil {
		tb.Fatal(err)
	}
	if err := k.WriteSettings(settings...); err != nil {
		tb.Fatal(err)
	}
	return k
}

func newTalker(tb testing.TB, conn net.Conn) *talker {
	k := &talker{tb: tb, Framer: http2.NewFramer(conn, conn), conn: conn}
	k.encoder = hpack.NewEncoder(&k.code)
	return k
}

// block encodes pairs of names and values.
func (k *talker) block(pairs ...string) []byte {
	k.code.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = k.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return k.code.Bytes()
}

// ask sends the head of a request; user may be empty.
func (k *talker) ask(id uint32, method, path, user string, end bool) {
	k.tb.Helper()
	pairs := []string{":method", method, ":scheme", "http", ":authority", "shop", ":path", path}
	if user != "" {
		pairs = append(pairs, "x-user", user)
	}
	if err := k.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: k.block(pairs...), EndHeaders: true, EndStream: end}); err != nil {
		k.tb.Fatalf("ask: %v", err)
	}
}

// until reads frames until one is what is wanted, and returns a description of it.
func (k *talker) until(wanted func(http2.Frame) bool) http2.Frame {
	k.tb.Helper()
	for {
		f, err := k.ReadFrame()
		if err != nil {
			k.tb.Fatalf("read frame: %v", err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			_ = k.WriteSettingsAck()
		}
		if wanted(f) {
			return f
		}
	}
}

func endOf(id uint32) func(http2.Frame) bool {
	return func(f http2.Frame) bool {
		switch f := f.(type) {
		case *http2.DataFrame:
			return f.StreamID == id && f.StreamEnded()
		case *http2.HeadersFrame:
			return f.StreamID == id && f.StreamEnded()
		case *http2.RSTStreamFrame:
			return f.StreamID == id
		}
		return false
	}
}

func goAway(f http2.Frame) bool { _, ok := f.(*http2.GoAwayFrame); return ok }

// mustGoAway reads to a GOAWAY with this code, and to the end.
func (k *talker) mustGoAway(code http2.ErrCode) {
	k.tb.Helper()
	if got := k.until(goAway).(*http2.GoAwayFrame); got.ErrCode != code {
		k.tb.Errorf("GOAWAY %v, want %v", got.ErrCode, code)
	}
	if rest, err := io.ReadAll(k.conn); err != nil {
		k.tb.Errorf("after GOAWAY: %q, %v", rest, err)
	}
}

// mustHalf is a stage where requests of "me" go to a local process.
func mustHalf(tb testing.TB) *stage {
	tb.Helper()
	s := mustStage(tb, mustHTTP2(tb, naming("original")), 0)
	s.claim("me", mine, mustHTTP2(tb, naming("local")))
	return s
}

func TestFramesOfAPortThatWasGivenUpComeToAnEnd(t *testing.T) {
	s := mustStage(t, mustHTTP2(t, naming("original")), -1)
	remove := s.claim("me", mine, mustHTTP2(t, naming("local")))
	for _, user := range []string{"", "me"} {
		k := mustTalk(t, s.addr)
		k.ask(1, "GET", "/", user, true)
		k.until(endOf(1))
		remove()
		k.ask(3, "GET", "/", "", true)
		if g := k.until(goAway).(*http2.GoAwayFrame); g.LastStreamID != 1<<31-1 || g.ErrCode != http2.ErrCodeNo {
			t.Errorf("first %v, want a warning", g)
		}
		k.until(endOf(3))
		if g := k.until(goAway).(*http2.GoAwayFrame); g.LastStreamID != 3 || g.ErrCode != http2.ErrCodeNo {
			t.Errorf("then %v, want stream 3", g)
		}
		if rest, err := io.ReadAll(k.conn); err != nil || len(rest) > 0 {
			t.Errorf("after it %q, %v", rest, err)
		}
		_ = k.conn.Close()
		remove = s.claim("me", mine, mustHTTP2(t, naming("local")))
	}
}

func TestOriginalThatLeavesLeavesFramesOfSessionsAlone(t *testing.T) {
	for name, leave := range map[string]func(*talker){
		"with words": func(k *talker) { _ = k.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"silently":   func(*talker) {},
	} {
		t.Run(name, func(t *testing.T) {
			let, asked, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
			s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) {
				k := newTalker(t, conn)
				_, _ = io.ReadFull(conn, make([]byte, len(h2.Preface)))
				_ = k.WriteSettings()
				<-asked
				leave(k)
				close(gone)
			}), 0)
			s.claim("me", mine, mustHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "half")
				w.(http.Flusher).Flush()
				<-let
				_, _ = io.WriteString(w, "rest")
			}))
			k := mustTalk(t, s.addr)
			k.ask(1, "GET", "/", "me", true)
			k.until(func(f http2.Frame) bool { _, ok := f.(*http2.DataFrame); return ok })
			close(asked)
			<-gone
			if g := k.until(goAway).(*http2.GoAwayFrame); g.LastStreamID != 1 {
				t.Errorf("last stream %d, want 1", g.LastStreamID)
			}
			close(let)
			if f, ok := k.until(endOf(1)).(*http2.DataFrame); !ok {
				t.Errorf("ended with %v", f)
			}
			if _, err := io.ReadAll(k.conn); err != nil {
				t.Errorf("end: %v", err)
			}
		})
	}
}

func TestFrameOfAPassedStreamBeyondTheOriginalsLastIsRefused(t *testing.T) {
	asked := make(chan struct{})
	s := mustStage(t, mustListen(t, func(ctx context.Context, conn net.Conn) {
		k := newTalker(t, conn)
		_, _ = io.ReadFull(conn, make([]byte, len(h2.Preface)))
		_ = k.WriteSettings()
		k.until(func(f http2.Frame) bool { return f.Header().StreamID == 3 && f.Header().Type == http2.FrameHeaders })
		_ = k.WriteGoAway(0, http2.ErrCodeNo, nil)
		<-asked
	}), 0)
	s.claim("me", mine, mustHTTP2(t, func(http.ResponseWriter, *http.Request) { <-asked }))
	k := mustTalk(t, s.addr)
	k.ask(1, "GET", "/", "me", true)
	k.ask(3, "GET", "/", "", true)
	k.ask(5, "GET", "/", "me", true)
	refused, told := false, false
	k.until(func(f http2.Frame) bool {
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			refused = refused || f.StreamID == 3 && f.ErrCode == http2.ErrCodeRefusedStream
		case *http2.GoAwayFrame:
			told = true
		}
		return refused && told
	})
	close(asked)
	k.until(endOf(1))
}

func TestFramesThatCannotBeFollowedEndInWords(t *testing.T) {
	for name, c := range map[string]struct {
		say  func(k *talker)
		code http2.ErrCode
	}{
		"header block": {func(k *talker) {
			_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x80 | 100}, EndHeaders: true, EndStream: true})
		}, http2.ErrCodeCompression},
		"continuation": {func(k *talker) { _ = k.WriteContinuation(3, true, nil) }, http2.ErrCodeProtocol},
		"idle stream":  {func(k *talker) { _ = k.WriteWindowUpdate(7, 1) }, http2.ErrCodeProtocol},
		"large frame":  {func(k *talker) { _ = k.WriteData(3, true, make([]byte, 1<<21)) }, http2.ErrCodeFrameSize},
	} {
		t.Run(name, func(t *testing.T) {
			k := mustTalk(t, mustHalf(t).addr)
			k.ask(1, "GET", "/", "me", true)
			k.until(endOf(1))
			k.ask(3, "POST", "/", "me", false)
			if name == "header block" || name == "continuation" {
				_ = k.WriteRSTStream(3, http2.ErrCodeCancel)
			}
			go c.say(k)
			k.mustGoAway(c.code)
		})
	}
}

func TestOriginalWithSmallWindowsLeavesThoseOfSessionsAlone(t *testing.T) {
	for _, window := range []uint32{0, 1, 1 << 10, 1 << 20, 1 << 30} {
		let := make(chan struct{})
		s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) {
			k := newTalker(t, conn)
			_, _ = io.ReadFull(conn, make([]byte, len(h2.Preface)))
			<-let
			_ = k.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			_ = k.WriteSettingsAck()
			for _, err := k.ReadFrame(); err == nil; _, err = k.ReadFrame() {
			}
		}), 0)
		came := make(chan struct{})
		s.claim("me", mine, mustSet(t, http.HTTP2Config{MaxReceiveBufferPerStream: 1<<16 - 1}, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadFull(r.Body, make([]byte, 1<<16-1))
			close(came)
			_, _ = io.Copy(io.Discard, r.Body)
		}))
		k := mustTalk(t, s.addr)
		k.ask(1, "POST", "/", "me", false)
		sent, credit := 0, 1<<16-1
		send := func() {
			for n := min(credit, 1<<14); n > 0 && sent < 500_000; n = min(credit, 1<<14) {
				_ = k.WriteData(1, sent+n >= 500_000, make([]byte, n))
				sent, credit = sent+n, credit-n
			}
		}
		send() // by the window that everybody has at first
		<-came
		close(let)
		k.until(func(f http2.Frame) bool {
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
					credit += int(v) - (1<<16 - 1)
				}
			case *http2.WindowUpdateFrame:
				if f.StreamID == 1 {
					credit += int(f.Increment)
				}
			}
			send()
			return endOf(1)(f)
		})
		if sent < 500_000 {
			t.Errorf("window %d: sent %d", window, sent)
		}
	}
}

func TestFramesHoldAConnectionWhileOneAnswerIsAwaited(t *testing.T) {
	let := make(chan struct{})
	s := mustStage(t, mustHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-let
		}
	}), 0)
	s.claim("me", mine, mustHTTP2(t, func(http.ResponseWriter, *http.Request) { <-let }))
	held := func(want int) {
		t.Helper()
		long := patience // It returns early when it knows that nothing is held.
		if want > 0 {
			long = 50 * time.Millisecond
		}
		if got := s.proxy.Held(t.Context(), long); got != want {
			t.Errorf("%d are held, want %d", got, want)
		}
	}
	k := mustTalk(t, s.addr)
	k.ask(1, "GET", "/", "", true)
	k.until(endOf(1))
	k.ask(3, "GET", "/", "me", true) // A session's own does not count.
	held(0)
	k.ask(5, "GET", "/wait", "", true)
	k.ask(7, "GET", "/", "", true)
	k.until(endOf(7))
	held(1)
	close(let)
	k.until(endOf(5))
	held(0)
}

func TestUpgradeToFramesIsFollowed(t *testing.T) {
	const (
		wish  = "GET /one HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAQAAAPo\r\n\r\n" // windows of 1000
		grant = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
	)
	s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) {
		if !expect(t, conn, wish) {
			return
		}
		_, _ = io.WriteString(conn, grant)
		k := newTalker(t, conn)
		_ = k.WriteSettings()
		_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: k.block(":status", "200"), EndHeaders: true, EndStream: true})
		if !expect(t, conn, h2.Preface) {
			return
		}
		_ = k.WriteSettingsAck()
		for f, err := k.ReadFrame(); err == nil; f, err = k.ReadFrame() {
			if f.Header().Type == http2.FrameHeaders {
				_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: f.Header().StreamID, BlockFragment: k.block(":status", "204"), EndHeaders: true, EndStream: true})
			}
		}
	}), 0)
	s.claim("me", mine, mustHTTP2(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 3000)) }))
	conn := mustDial(t, s.addr)
	play(t, conn, step{wish, grant})
	k := newTalker(t, conn)
	_, _ = io.WriteString(conn, h2.Preface)
	_ = k.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	k.until(endOf(1))
	k.ask(3, "GET", "/", "", true)
	k.until(endOf(3))
	k.ask(5, "GET", "/", "me", true)
	sum := 0
	k.until(func(f http2.Frame) bool {
		if d, ok := f.(*http2.DataFrame); ok {
			if sum += len(d.Data()); sum%1000 == 0 {
				_ = k.WriteWindowUpdate(5, 1000)
			}
			if sum > 3000 {
				t.Fatal("more than the window")
			}
		}
		return endOf(5)(f)
	})
	if sum != 3000 {
		t.Errorf("%d bytes", sum)
	}
}

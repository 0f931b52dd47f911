package route

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
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

// floods are what servers have been brought down by.
var floods = map[string]struct {
	say  func(k *talker) error
	code http2.ErrCode // in the GOAWAY after something was stolen; 0: it goes on
}{
	"continuations": {func(k *talker) error {
		_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: k.block(":method", "GET")})
		for range 100_000 {
			if err := k.WriteContinuation(3, false, []byte("\x00\x01a\x01b")); err != nil {
				return err
			}
		}
		return nil
	}, http2.ErrCodeEnhanceYourCalm},
	"header bomb": {func(k *talker) error {
		block := k.block(":method", "GET", ":scheme", "http", ":path", "/", "x", strings.Repeat("y", 4000))
		block = append(block, bytes.Repeat([]byte{0x80 | 62}, 15_000)...)
		return k.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block[:16000], EndHeaders: true, EndStream: true})
	}, http2.ErrCodeEnhanceYourCalm},
	"window": {func(k *talker) error { return k.WriteWindowUpdate(0, 1<<31-1) }, http2.ErrCodeFlowControl},
	"pings": {func(k *talker) error {
		for range 50_000 {
			if err := k.WritePing(false, [8]byte{1}); err != nil {
				return err
			}
		}
		return nil
	}, 0},
	"settings": {func(k *talker) error {
		for range 50_000 {
			if err := k.WriteSettings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 1 << 20}); err != nil {
				return err
			}
		}
		return nil
	}, 0},
	"empty data": {func(k *talker) error {
		k.ask(3, "POST", "/", "me", false)
		for range 100_000 {
			if err := k.WriteData(3, false, nil); err != nil {
				return err
			}
		}
		return k.WriteRSTStream(3, http2.ErrCodeCancel)
	}, 0},
	"window updates": {func(k *talker) error {
		k.ask(3, "POST", "/", "me", false)
		for range 100_000 {
			if err := k.WriteWindowUpdate(3, 1); err != nil {
				return err
			}
		}
		return k.WriteRSTStream(3, http2.ErrCodeCancel)
	}, 0},
	"rapid resets": {func(k *talker) error {
		for id := uint32(3); id < 40_000; id += 2 {
			k.ask(id, "GET", "/", "me", true)
			if err := k.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
				return err
			}
		}
		return nil
	}, 0},
}

func memory1() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// After something was stolen the original is not asked any more what it thinks of a flood. What it costs us is bounded.
func TestFloodsOfFramesAreBounded(t *testing.T) {
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			s := mustHalf(t)
			k := mustTalk(t, s.addr)
			k.ask(1, "GET", "/", "me", true)
			k.until(endOf(1))
			before, routines := memory1(), runtime.NumGoroutine()
			reading := make(chan http2.ErrCode, 1)
			go func() {
				for {
					f, err := k.ReadFrame()
					if err != nil {
						close(reading)
						return
					}
					if g, ok := f.(*http2.GoAwayFrame); ok {
						reading <- g.ErrCode
					}
				}
			}()
			err := flood.say(k)
			if after := memory1(); after > before+16<<20 {
				t.Errorf("%d MiB more", (after-before)>>20)
			}
			if n := runtime.NumGoroutine() - routines; n > 30 {
				t.Errorf("%d goroutines more", n)
			}
			if flood.code != 0 {
				if got, ok := <-reading; ok && got != flood.code {
					t.Errorf("GOAWAY %v, want %v", got, flood.code)
				} else if !ok && err == nil {
					t.Error("no GOAWAY")
				}
			}
			_ = k.conn.Close()
			for range reading {
			}
			// Others do not notice.
			if got := mustAsk(t, mustClient(t, s.addr), "GET", "/", "", ""); !strings.HasPrefix(got, "original") {
				t.Errorf("got %q", got)
			}
		})
	}
}

// While nothing was stolen, the original decides: the answers are the same with and without us.
func TestFloodsOfFramesThatPassAreTheOriginals(t *testing.T) {
	addr := mustHTTP2(t, naming("original"))
	through := mustStageClaimed(t, addr).addr
	for _, name := range []string{"continuations", "header bomb", "window"} {
		t.Run(name, func(t *testing.T) {
			var ends []string
			for _, at := range []string{addr, through} {
				k := mustTalk(t, at)
				go func() { _ = floods[name].say(k) }()
				end := ""
				for {
					f, err := k.ReadFrame()
					if err != nil {
						break
					}
					switch f := f.(type) {
					case *http2.GoAwayFrame:
						end += f.ErrCode.String()
					case *http2.RSTStreamFrame:
						end += "reset " + f.ErrCode.String()
						_ = k.conn.Close()
					case *http2.HeadersFrame:
						end += "answered"
						_ = k.conn.Close()
					}
				}
				ends = append(ends, end)
			}
			if ends[0] != ends[1] {
				t.Errorf("%q, direct %q", ends[1], ends[0])
			}
		})
	}
}

func TestSlowLocalProcessSlowsItsOwnStreamsAlone(t *testing.T) {
	let := make(chan struct{})
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	s.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) { <-let })) // takes nothing
	defer close(let)
	client := mustClient(t, s.addr)
	ctx, cancel := context.WithCancel(t.Context())
	for range 20 {
		r, _ := http.NewRequestWithContext(ctx, "POST", "http://shop/", strings.NewReader(strings.Repeat("x", 2<<20)))
		r.Header.Set("X-User", "me")
		go func() { _, _ = client.Do(r) }()
	}
	body := strings.Repeat("y", 1<<20)
	for range 20 {
		if got, want := mustAsk(t, client, "POST", "/", "", body), "original POST /  "+body; got != want {
			t.Fatalf("got %.80q", got)
		}
	}
	cancel()
}

func TestClientThatDoesNotReadCostsLittle(t *testing.T) {
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	wrote := make(chan struct{}, 100)
	s.claim("me", mine, mustHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
		b := make([]byte, 1<<20)
		for range 50 {
			if _, err := w.Write(b); err != nil {
				return
			}
			wrote <- struct{}{}
		}
	}))
	k := mustTalk(t, s.addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	_ = k.WriteWindowUpdate(0, 1<<31-1<<16-1)
	before := memory1()
	for id := uint32(1); id < 20; id += 2 {
		k.ask(id, "GET", "/", "me", true)
	}
	for stuck := false; !stuck; {
		select {
		case <-wrote:
		case <-time.After(500 * time.Millisecond):
			stuck = true
		}
	}
	if after := memory1(); after > before+24<<20 {
		t.Errorf("%d MiB more", (after-before)>>20)
	}
	_ = k.conn.Close()
}

// mustMany serves many streams on each connection, whose answers wait until all have come.
func mustMany(tb testing.TB, name string, streams int, all *sync.WaitGroup) string {
	tb.Helper()
	return mustSet(tb, http.HTTP2Config{MaxConcurrentStreams: streams}, func(w http.ResponseWriter, _ *http.Request) {
		all.Done()
		all.Wait()
		w.Header().Set("x-name", name)
	})
}

// mustSet serves HTTP/2 with these settings.
func mustSet(tb testing.TB, config http.HTTP2Config, handler http.HandlerFunc) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := &http.Server{Protocols: &http.Protocols{}, HTTP2: &config, Handler: handler}
	server.Protocols.SetUnencryptedHTTP2(true)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	tb.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

func TestTenThousandStreamsAtOnce(t *testing.T) {
	const streams = 10_000
	var all sync.WaitGroup
	all.Add(streams)
	s := mustStage(t, mustMany(t, "original", streams, &all), 0)
	s.claim("me", mine, mustMany(t, "local", streams, &all))
	k := mustTalk(t, s.addr)
	k.until(func(f http2.Frame) bool { _, ok := f.(*http2.SettingsFrame); return ok })
	go func() {
		for i := range uint32(streams) {
			user := ""
			if i%2 == 1 {
				user = "me"
			}
			k.ask(2*i+1, "GET", "/", user, true)
		}
	}()
	got := map[string]int{}
	k.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for range streams {
		f := k.until(func(f http2.Frame) bool {
			_, ok := f.(*http2.MetaHeadersFrame)
			return ok || goAway(f) || f.Header().Type == http2.FrameRSTStream
		})
		m, ok := f.(*http2.MetaHeadersFrame)
		if !ok {
			t.Fatalf("got %v", f)
		}
		for _, field := range m.RegularFields() {
			if field.Name == "x-name" {
				got[field.Value]++
			}
		}
	}
	if got["original"] != streams/2 || got["local"] != streams/2 {
		t.Errorf("answered by %v", got)
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

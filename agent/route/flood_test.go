package route

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

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

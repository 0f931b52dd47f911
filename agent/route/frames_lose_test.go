package route

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/magpie-k8s/magpie/agent/route/h2"
)

// A part of a local process is what it does with the n-th stream that it gets, counted over all its connections. It reports false
// to close the connection.
type part func(k *talker, id uint32, n int) bool

// mustPlayLocal plays a local process, frame by frame.
func mustPlayLocal(t *testing.T, play part) string {
	t.Helper()
	var streams atomic.Int64
	return mustListen(t, func(_ context.Context, conn net.Conn) {
		k := newTalker(t, conn)
		_, _ = io.ReadFull(conn, make([]byte, len(h2.Preface)))
		_ = k.WriteSettings()
		for {
			f, err := k.ReadFrame()
			if err != nil {
				return
			}
			if end := f.Header().Flags.Has(http2.FlagDataEndStream); end && (f.Header().Type == http2.FrameHeaders || f.Header().Type == http2.FrameData) {
				if !play(k, f.Header().StreamID, int(streams.Add(1))) {
					return
				}
			}
		}
	})
}

func answers(k *talker, id uint32) {
	_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: k.block(":status", "200", "x-name", "local"), EndHeaders: true, EndStream: true})
}

// What becomes of a request that the local process does not answer as it should: who answers, or how it ends.
func TestFramesThatASessionDoesNotAnswer(t *testing.T) {
	closes := func(*talker, uint32, int) bool { return false }
	refuses := func(k *talker, id uint32, _ int) bool {
		_ = k.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		return true
	}
	leaves := func(k *talker, _ uint32, _ int) bool {
		_ = k.WriteGoAway(0, http2.ErrCodeNo, nil)
		return true
	}
	resets := func(k *talker, id uint32, _ int) bool {
		_ = k.WriteRSTStream(id, http2.ErrCodeInadequateSecurity)
		return true
	}
	half := func(k *talker, id uint32, _ int) bool {
		_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: k.block(":status", "200", "x-name", "local"), EndHeaders: true})
		return false
	}
	nonsense := func(k *talker, id uint32, _ int) bool {
		_ = k.WriteData(id, true, []byte("no head"))
		return true
	}
	idle := func(k *talker, id uint32, n int) bool { // closes the connection that it has kept, just as the second request comes
		if n != 2 {
			answers(k, id)
		}
		return n != 2
	}
	for name, c := range map[string]struct {
		play   part
		before bool // another request was answered on the connection
		method string
		want   string
	}{
		"closed, safe":              {closes, false, "GET", "200 original"},
		"closed, not safe":          {closes, false, "POST", "502"},
		"closed, idempotent":        {closes, false, "PUT", "502"},
		"closed when idle":          {idle, true, "PUT", "200 local"},
		"closed when idle, unsafe":  {idle, true, "POST", "502"},
		"refused":                   {refuses, false, "POST", "200 original"},
		"left":                      {leaves, false, "POST", "200 original"},
		"reset":                     {resets, false, "GET", "reset INADEQUATE_SECURITY"},
		"closed in its answer":      {half, false, "GET", "200 local, reset INTERNAL_ERROR"},
		"answered without a head":   {nonsense, false, "GET", "502"},
		"closed, for gRPC":          {closes, false, "gRPC", "200 grpc-status 14"},
		"refused, gRPC to original": {refuses, false, "gRPC", "200 original"},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustStage(t, mustHTTP2(t, naming("original")), 0)
			s.claim("me", mine, mustPlayLocal(t, c.play))
			k := mustTalk(t, s.addr)
			k.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			id := uint32(1)
			if c.before {
				k.ask(id, "GET", "/", "me", true)
				k.outcome(id)
				id += 2
			}
			if c.method == "gRPC" {
				block := k.block(":method", "POST", ":scheme", "http", ":path", "/a.B/C", "x-user", "me", "content-type", "application/grpc", "te", "trailers")
				_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true})
			} else {
				k.ask(id, c.method, "/", "me", false)
			}
			_ = k.WriteDataPadded(id, true, []byte("body"), make([]byte, 100))
			if got := k.outcome(id); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			// The connection is as good as before.
			k.ask(id+2, "POST", "/", "", true)
			if got := k.outcome(id + 2); got != "200 original" {
				t.Errorf("then %q", got)
			}
		})
	}
}

// outcome says how a stream ends.
func (k *talker) outcome(id uint32) string {
	k.tb.Helper()
	var said []string
	k.until(func(f http2.Frame) bool {
		if f.Header().StreamID != id {
			return false
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if status := f.PseudoValue("status"); status != "" {
				said = append(said, status)
			}
			for _, field := range f.RegularFields() {
				switch field.Name {
				case "x-name":
					said[len(said)-1] += " " + field.Value
				case "grpc-status":
					said[len(said)-1] += " grpc-status " + field.Value
				}
			}
		case *http2.RSTStreamFrame:
			said = append(said, "reset "+f.ErrCode.String())
		}
		return endOf(id)(f) || f.Header().Type == http2.FrameHeaders && f.Header().Flags.Has(http2.FlagHeadersEndStream)
	})
	return strings.Join(said, ", ")
}

func TestResetOfTheClientReachesTheLocalProcess(t *testing.T) {
	asked, reset := make(chan uint32), make(chan http2.ErrCode, 1)
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	s.claim("me", mine, mustListen(t, func(_ context.Context, conn net.Conn) {
		k := newTalker(t, conn)
		_, _ = io.ReadFull(conn, make([]byte, len(h2.Preface)))
		_ = k.WriteSettings()
		_ = k.WritePing(false, [8]byte{'p'})
		ponged, ended := false, false
		k.until(func(f http2.Frame) bool {
			switch f := f.(type) {
			case *http2.PingFrame:
				ponged = f.IsAck() && f.Data == [8]byte{'p'}
			case *http2.HeadersFrame:
				asked <- f.StreamID
			case *http2.RSTStreamFrame:
				ended = true
				reset <- f.ErrCode
			}
			return ponged && ended
		})
		close(reset)
		_, _ = io.Copy(io.Discard, conn)
	}))
	k := mustTalk(t, s.addr)
	k.ask(1, "POST", "/", "", true)
	k.until(endOf(1))
	k.ask(3, "POST", "/", "me", false)
	if id := <-asked; id != 1 {
		t.Errorf("stream %d, want 1: its numbers are its own", id)
	}
	_ = k.WriteRSTStream(3, http2.ErrCodeEnhanceYourCalm)
	if code := <-reset; code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("reset with %v", code)
	}
	<-reset // The ping was answered too.
}

func TestAnswersOfSessionsComeWhole(t *testing.T) {
	s := mustStage(t, mustHTTP2(t, naming("original")), 0)
	s.claim("me", mine, mustPlayLocal(t, func(k *talker, id uint32, _ int) bool {
		_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: k.block(":status", "103", "link", "early"), EndHeaders: true})
		block := k.block(":status", "200", "x-name", "local", "x-long", strings.Repeat("long", 1000))
		_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:10], PadLength: 9})
		_ = k.WriteContinuation(id, true, block[10:])
		_ = k.WriteDataPadded(id, false, []byte("padded "), make([]byte, 200))
		_ = k.WriteData(id, false, []byte("body"))
		_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: k.block("x-sum", "11"), EndHeaders: true, EndStream: true})
		return true
	}))
	k := mustTalk(t, s.addr)
	k.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for id := uint32(1); id < 9; id += 2 {
		k.ask(id, "GET", "/", "me", true)
		var got []string
		k.until(func(f http2.Frame) bool {
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				for _, field := range f.Fields {
					got = append(got, field.Name+"="+field.Value[:min(len(field.Value), 8)])
				}
				return f.StreamEnded()
			case *http2.DataFrame:
				got = append(got, string(f.Data()))
			}
			return false
		})
		if got, want := strings.Join(got, "|"), ":status=103|link=early|:status=200|x-name=local|x-long=longlong|padded |body|x-sum=11"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

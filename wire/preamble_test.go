package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

func TestPreambleIsFixed(t *testing.T) {
	if got, want := preamble(), []byte("magpie\x00\x01"); !bytes.Equal(got, want) {
		t.Errorf("preamble %q; want %q", got, want)
	}
}

func TestForeignPeerIsToldApart(t *testing.T) {
	for _, peer := range []struct{ says, want string }{
		{"HTTP/1.1 400 Bad Request\r\n\r\n", `not a Magpie agent: it said "HTTP/1.1"`},
		{"SSH-2.0-OpenSSH_10.0\r\n", `not a Magpie agent: it said "SSH-2.0-"`},
		{"\x00\x01\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00", `not a Magpie agent: it said "\x00\x01\x00\x01\x00\x00\x00\x01"`},
		{"mag\n", `not a Magpie agent: it said "mag\n"`},
		{"magpie\x00\x02", "agent speaks protocol 2, this client 1"},
		{"", "agent closed the connection before it said anything"},
		{"magp", "agent closed the connection in the middle of its first word"},
	} {
		a, b := mustPipe(t)
		mustWrite(t, b, peer.says)
		b.(*net.UnixConn).CloseWrite()
		client := Client(a)
		within(t, "client gives up on "+peer.says, client.Done())
		if _, err := client.Open(t.Context(), connect); err == nil || err.Error() != "open stream: "+peer.want {
			t.Errorf("after %q: %v; want %s", peer.says, err, peer.want)
		}
		client.Close()
	}
}

// hurried speaks first and listens to nothing.
type hurried struct {
	io.Reader
	refused chan struct{}
	once    sync.Once
}

func (h *hurried) Write([]byte) (int, error) {
	h.once.Do(func() { close(h.refused) })
	return 0, syscall.EPIPE
}

func (h *hurried) Read(b []byte) (int, error) {
	<-h.refused
	return h.Reader.Read(b)
}

func (h *hurried) Close() error { return nil }

func TestForeignPeerThatClosesAtOnceIsToldApart(t *testing.T) {
	for said, want := range map[string]string{
		"HTTP/1.1 400 Bad Request\r\n\r\n": `not a Magpie agent: it said "HTTP/1.1"`,
		string(preamble()):                 "carrier to agent: broken pipe",
	} {
		c := Client(&hurried{Reader: strings.NewReader(said), refused: make(chan struct{})})
		<-c.Done()
		if err := c.Err(); err.Error() != want {
			t.Errorf("%q: %v; want %s", said, err, want)
		}
		c.Close()
	}
}

func TestSilentPeerIsFoundOut(t *testing.T) {
	a, _ := mustPipe(t)
	short := standard
	short.greet = 20 * time.Millisecond
	client := newCarrier(a, clientRole, short)
	defer client.Close()
	s, err := client.Open(t.Context(), connect)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Read(make([]byte, 1))
	if err == nil || err.Error() != "agent silent for 20ms" || !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("read: %v", err)
	}
}

func TestHTTPClientIsToldApartByTheAgent(t *testing.T) {
	a, b := mustPipe(t)
	agent := Agent(b)
	defer agent.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://agent/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.Write(a); err != nil {
		t.Fatal(err)
	}
	_, err = agent.Accept()
	if err == nil || err.Error() != `not a Magpie client: it said "GET / HT"` {
		t.Errorf("accept: %v", err)
	}
}

func TestGarbageAfterThePreambleEndsTheCarrierOnly(t *testing.T) {
	a, b := mustPipe(t)
	agent := Agent(b)
	defer agent.Close()
	mustWrite(t, a, string(preamble())+strings.Repeat("\xff", 4096))
	if _, err := agent.Accept(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("accept: %v; want ECONNRESET", err)
	}
}

func TestSilenceEndsACarrierAndItsStreams(t *testing.T) {
	a, b := mustPipe(t)
	short := standard
	short.silence = 50 * time.Millisecond
	client, agent := newCarrier(a, clientRole, short), Agent(b)
	defer client.Close()
	defer agent.Close()
	ours, _ := mustOpen(t, client, agent)
	if err := ours.Opened(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := ours.Read(make([]byte, 1))
	if !errors.Is(err, syscall.ECONNRESET) || !strings.HasPrefix(err.Error(), "agent silent for ") {
		t.Errorf("read: %v", err)
	}
}

func TestPingsKeepAnIdleCarrierAlive(t *testing.T) {
	a, b := mustPipe(t)
	short := standard
	short.ping, short.silence = 10*time.Millisecond, 100*time.Millisecond
	client, agent := newCarrier(a, clientRole, short), newCarrier(b, agentRole, short)
	defer client.Close()
	defer agent.Close()
	select {
	case <-client.Done():
		t.Error(client.Err())
	case <-agent.Done():
		t.Error(agent.Err())
	case <-time.After(400 * time.Millisecond): // there is no event to wait for: nothing must happen
	}
}

func FuzzPreamble(f *testing.F) {
	for _, seed := range []string{"", "mag", "magpie\x00\x01", "magpie\x00\x02", "GET / HTTP/1.1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		err := readPreamble(iotest.OneByteReader(r), clientRole)
		if ok := bytes.HasPrefix(b, preamble()); ok != (err == nil) {
			t.Fatalf("%q: %v", b, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\r\x1b") {
			t.Fatalf("%q: not one line: %q", b, err)
		}
	})
}

// FuzzFrames checks that cuts do not matter, and that a whole carrier outlives no garbage and panics at none.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x03\x00\x00\x00\x02hi"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		type seen struct {
			id    uint32
			flags uint16
		}
		var whole, pieces []seen
		var one, many frames
		_ = one.scan(b, func(id uint32, flags uint16) error { whole = append(whole, seen{id, flags}); return nil })
		cut = min(max(cut, 1), 64)
		for rest := b; len(rest) > 0; rest = rest[min(cut, len(rest)):] {
			_ = many.scan(rest[:min(cut, len(rest))], func(id uint32, flags uint16) error {
				pieces = append(pieces, seen{id, flags})
				return nil
			})
		}
		if len(whole) != len(pieces) {
			t.Fatalf("%d frames, %d in pieces", len(whole), len(pieces))
		}
		a, c := net.Pipe()
		agent := Agent(c)
		go func() { _, _ = io.Copy(io.Discard, a) }()
		go func() { _, _ = a.Write(append(preamble(), b...)); a.Close() }()
		for {
			s, err := agent.Accept()
			if err != nil {
				break
			}
			if _, err := s.Opening(); err == nil {
				s.Close()
			}
		}
		agent.Close()
	})
}

package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// mustMeet opens a stream from an agent to a session, as a connection that comes for the local process.
func mustMeet(tb testing.TB) (agent *wire.Stream, session Incoming) {
	tb.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatal(err)
	}
	ours, theirs := wire.Client(mustConn(tb, fds[0])), wire.Agent(mustConn(tb, fds[1]))
	tb.Cleanup(func() { ours.Close(); theirs.Close() })
	agent, err = theirs.Open(tb.Context(), &wire.Open{What: &wire.Open_Incoming{Incoming: &wire.Incoming{Claim: 1}}})
	if err != nil {
		tb.Fatal(err)
	}
	stream, err := ours.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := stream.Opening(); err != nil {
		tb.Fatal(err)
	}
	return agent, Incoming{Stream: stream}
}

// mustEncrypt joins a stream from an agent with a local process as the layer does, in TLS.
func mustEncrypt(tb testing.TB, local, name string, protocols ...string) *wire.Stream {
	tb.Helper()
	agent, in := mustMeet(tb)
	app, err := net.Dial("tcp", local)
	if err != nil {
		tb.Fatal(err)
	}
	e := encrypt(in, name, protocols, func(error) {})
	over := make(chan struct{})
	go func() {
		defer close(over)
		join(app.(*net.TCPConn), e)
	}()
	tb.Cleanup(func() {
		agent.Reset(syscall.ECONNRESET)
		select {
		case <-over:
		case <-time.After(patience):
			tb.Error("the relay does not end")
		}
	})
	return agent
}

// join relays as layer.join does.
func join(app *net.TCPConn, e *Encrypted) {
	down := make(chan struct{})
	go func() {
		defer close(down)
		if _, err := io.Copy(app, e); err != nil {
			_ = app.SetLinger(0)
			app.Close()
			return
		}
		_ = app.CloseWrite()
	}()
	if _, err := io.Copy(e, app); err == nil {
		_ = e.CloseWrite()
	} else {
		_ = app.SetLinger(0)
		app.Close()
		e.Close()
	}
	<-down
	app.Close()
	e.Close()
}

func mustTLS(tb testing.TB, h2 bool, h http.HandlerFunc) *httptest.Server {
	tb.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = h2
	s.StartTLS()
	tb.Cleanup(s.Close)
	return s
}

func TestTheLocalProcessIsSpokenToInTLSAsTheClientDid(t *testing.T) {
	saw := make(chan *tls.ConnectionState, 1)
	local := mustTLS(t, false, func(w http.ResponseWriter, r *http.Request) {
		saw <- r.TLS
		_, _ = io.Copy(w, r.Body)
	})
	agent := mustEncrypt(t, local.Listener.Addr().String(), "shop.example", "http/1.1")
	text := strings.Repeat("magpie", 200_000)
	req, err := http.NewRequest(http.MethodPost, "http://shop.example/", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = req.Write(agent) }()
	resp, err := http.ReadResponse(bufio.NewReader(agent), req)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != text {
		t.Errorf("%d bytes came back, %v; want %d", len(body), err, len(text))
	}
	if state := <-saw; state.ServerName != "shop.example" || state.NegotiatedProtocol != "http/1.1" {
		t.Errorf("the local process saw name %q, protocol %q", state.ServerName, state.NegotiatedProtocol)
	}
}

func TestHTTP2GoesThroughToTheLocalProcess(t *testing.T) {
	local := mustTLS(t, true, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) {
		return mustEncrypt(t, local.Listener.Addr().String(), "shop.example", "h2"), nil
	}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://shop.example/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "HTTP/2.0" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestALocalProcessWithoutTLSIsNamedToTheAgent(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	go func() {
		for {
			c, err := mute.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	old := mustTLS(t, false, func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct{ name, at, protocol, cause, hint string }{ // both in one line
		{"plain HTTP", plain.Listener.Addr().String(), "http/1.1", "the local process does not speak TLS", "--local-protocol h1 or h2c"},
		{"it hangs up", mute.Addr().String(), "http/1.1", "when TLS began", "--local-protocol h1 or h2c"},
		{"HTTP/2 is wanted", old.Listener.Addr().String(), "h2", "the local process does not shake hands in TLS: ", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			agent := mustEncrypt(t, c.at, "shop.example", c.protocol)
			_, err := agent.Read(make([]byte, 1))
			var told *wire.Error
			if !errors.As(err, &told) || !errors.Is(err, syscall.EPROTO) || !strings.Contains(told.Cause, c.cause) || !strings.Contains(told.Cause, c.hint) {
				t.Errorf("the agent hears %v; want %q and %q", err, c.cause, c.hint)
			}
		})
	}
}

func TestALocalProcessThatHasNoHTTP2IsNamedToTheAgent(t *testing.T) {
	local := httptest.NewUnstartedServer(http.NotFoundHandler())
	local.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: local.TLS.Certificates}, nil // knows nothing of ALPN
	}}
	local.StartTLS()
	t.Cleanup(local.Close)
	agent := mustEncrypt(t, local.Listener.Addr().String(), "shop.example", "h2")
	if _, err := agent.Read(make([]byte, 1)); !errors.Is(err, syscall.EPROTO) || !strings.Contains(err.Error(), "HTTP/2 over TLS") {
		t.Errorf("got %v", err)
	}
}

// mustServeTLS gives one connection to serve.
func mustServeTLS(tb testing.TB, serve func(*tls.Conn)) string {
	tb.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: mustTLS(tb, false, nil).TLS.Certificates})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		serve(c.(*tls.Conn))
	}()
	return l.Addr().String()
}

func TestEitherSideMayEndBeforeTheOther(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		local := mustServeTLS(t, func(c *tls.Conn) {
			b, _ := io.ReadAll(c)
			_, _ = c.Write(bytes.ToUpper(b))
		})
		agent := mustEncrypt(t, local, "")
		_, _ = io.WriteString(agent, "hello")
		if err := agent.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(agent); string(b) != "HELLO" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("local process", func(t *testing.T) {
		heard := make(chan string, 1)
		local := mustServeTLS(t, func(c *tls.Conn) {
			_, _ = io.WriteString(c, "bye")
			_ = c.CloseWrite()
			b, _ := io.ReadAll(c)
			heard <- string(b)
		})
		agent := mustEncrypt(t, local, "")
		if b, err := io.ReadAll(agent); string(b) != "bye" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		_, _ = io.WriteString(agent, "late")
		_ = agent.CloseWrite()
		if b := <-heard; b != "late" {
			t.Errorf("the local process heard %q", b)
		}
	})
}

func TestABreakOfEitherSideBreaksTheOther(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		ended := make(chan error, 1)
		local := mustServeTLS(t, func(c *tls.Conn) {
			_, _ = io.WriteString(c, "ready")
			_, err := c.Read(make([]byte, 1))
			ended <- err
		})
		agent := mustEncrypt(t, local, "")
		if _, err := io.ReadFull(agent, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		agent.Reset(syscall.ECONNRESET)
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the local process reads %v", err)
		}
	})
	t.Run("local process", func(t *testing.T) {
		local := mustServeTLS(t, func(c *tls.Conn) {
			_, _ = io.WriteString(c, "half an ans")
			tcp := c.NetConn().(*net.TCPConn)
			_, _ = c.Read(make([]byte, 1)) // until the client has it
			_ = tcp.SetLinger(0)
			tcp.Close()
		})
		agent := mustEncrypt(t, local, "")
		if _, err := io.ReadFull(agent, make([]byte, 11)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(agent, "!")
		if _, err := agent.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the agent reads %v", err)
		}
	})
	t.Run("client, while the local process does not shake hands", func(t *testing.T) {
		silent, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		agent := mustEncrypt(t, silent.Addr().String(), "")
		app, err := silent.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer app.Close()
		agent.Reset(syscall.ECONNRESET)
		if _, err := io.Copy(io.Discard, app); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the local process reads %v", err)
		}
	})
}

func TestAnEncryptedConnectionThatIsRefusedIsGivenBack(t *testing.T) {
	agent, in := mustMeet(t)
	e := encrypt(in, "", nil, func(error) {})
	e.Refuse(syscall.ECONNREFUSED)
	if err := agent.Opened(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkEncrypt is a large body through the local process' TLS.
func BenchmarkEncrypt(b *testing.B) {
	local := mustServeTLS(b, func(c *tls.Conn) { _, _ = io.Copy(c, c) })
	agent := mustEncrypt(b, local, "")
	chunk := make([]byte, 64<<10)
	b.SetBytes(int64(len(chunk)))
	go func() {
		for {
			if _, err := agent.Write(chunk); err != nil {
				return
			}
		}
	}()
	for b.Loop() {
		if _, err := io.ReadFull(agent, chunk); err != nil {
			b.Fatal(err)
		}
	}
}

func mustConn(tb testing.TB, fd int) net.Conn {
	tb.Helper()
	f := os.NewFile(uintptr(fd), "pipe")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

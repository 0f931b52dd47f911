package handshake

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// mustRecord has an original that keeps what it hears and then answers a word.
func mustRecord(tb testing.TB) (dial Dialer, heard chan []byte) {
	tb.Helper()
	heard = make(chan []byte, 1)
	l := mustListen(tb)
	mustServe(tb, l, func(c net.Conn) {
		defer c.Close()
		b, _ := io.ReadAll(c)
		heard <- b
		_, _ = io.WriteString(c, "word")
	})
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}, heard
}

func TestWhatIsNoHelloReachesTheOriginalAsItCame(t *testing.T) {
	pair, _ := mustIssuer(t, "ca").mustIssue(t, shop)
	record := func(body string) string {
		return "\x16\x03\x01" + string([]byte{byte(len(body) >> 8), byte(len(body))}) + body
	}
	for name, c := range map[string]struct {
		bytes string
		kind  Kind
	}{
		"nothing":               {"", Plain},
		"HTTP":                  {"GET / HTTP/1.1\r\nHost: shop\r\n\r\n", Plain},
		"one letter":            {"G", Plain},
		"half a header":         {"\x16\x03\x01", Plain},
		"SSL 2":                 {"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10", Plain},
		"another record":        {"\x17\x03\x03\x00\x05hello", Plain},
		"no hello":              {record("\x02\x00\x00\x00"), Plain},
		"an empty hello":        {record("\x01\x00\x00\x00"), Raw},
		"garbage in a hello":    {record("\x01\x00\x00\x08garbage!"), Raw},
		"a hello that ends":     {record("\x01\x00\x10\x00begins"), Raw},
		"an endless hello":      {record("\x01\xff\xff\xff" + strings.Repeat("x", 16000)), Raw},
		"a hello in fragments":  {strings.Repeat(record("\x01"), 1) + strings.Repeat(record("\x00"), 40_000), Raw},
		"garbage after a hello": {record("\x01\x00\x00\x01\x00") + "garbage", Raw},
	} {
		t.Run(name, func(t *testing.T) {
			dial, heard := mustRecord(t)
			a := mustAgent(t, New(Config{Own: pair}), dial)
			client := a.dial(t)
			go func() {
				_, _ = io.WriteString(client, c.bytes)
				_ = client.CloseWrite()
			}()
			if b := <-heard; string(b) != c.bytes {
				t.Errorf("the original hears %d bytes %.40q; want %d", len(b), b, len(c.bytes))
			}
			if b, err := io.ReadAll(client); string(b) != "word" || err != nil {
				t.Errorf("the client hears %q, %v", b, err)
			}
			if r := a.result(t); r.Kind != c.kind {
				t.Errorf("kind %d, because %v", r.Kind, r.Why)
			}
		})
	}
}

// slow writes each byte alone.
type slow struct{ net.Conn }

func (s slow) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := s.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func TestAHelloMayBeSlowAndLong(t *testing.T) {
	pair, own := mustIssuer(t, "ca").mustIssue(t, shop)
	o := mustOriginal(t, &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: []string{"http/1.1"}})
	a := mustAgent(t, New(Config{Own: pair}), o.dial)
	t.Run("slow", func(t *testing.T) {
		c := tls.Client(slow{a.dial(t)}, insecure(shop))
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if r := a.result(t); r.Kind != Ended {
			t.Errorf("kind %d, because %v", r.Kind, r.Why)
		}
	})
	t.Run("long", func(t *testing.T) {
		protocols := []string{"http/1.1"}
		for i := range 1000 {
			protocols = append(protocols, fmt.Sprintf("%050d", i))
		}
		if _, got := meet(t, a.Addr(), insecure(shop, protocols...)); got.err != "" || got.protocol != "http/1.1" {
			t.Errorf("%+v", got)
		}
		if r := a.result(t); r.Kind != Ended {
			t.Errorf("kind %d, because %v", r.Kind, r.Why)
		}
	})
}

func TestASilentClientIsTheOriginalsAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pair, _ := mustIssuer(t, "ca").mustIssue(t, shop)
		for first, want := range map[string]Kind{"": Plain, "\x16\x03\x01\x01\x00\x01": Raw} {
			client, ours := net.Pipe()
			begin := time.Now()
			go func() { _, _ = io.WriteString(client, first) }()
			r, err := New(Config{Own: pair}).Accept(t.Context(), ours, nil)
			if err != nil || r.Kind != want || time.Since(begin) != patience {
				t.Fatalf("%+v, %v after %v", r, err, time.Since(begin))
			}
			go func() {
				_, _ = io.WriteString(client, "late")
				client.Close()
			}()
			if b, err := io.ReadAll(r.Client); string(b) != first+"late" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			r.Client.Close()
		}
	})
}

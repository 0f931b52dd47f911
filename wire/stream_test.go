package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestStreamHalfClosesBothWays(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, theirs := mustOpen(t, client, agent)
	for _, way := range []struct{ from, to *Stream }{{ours, theirs}, {theirs, ours}} {
		mustWrite(t, way.from, "last words")
		if err := way.from.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		mustRead(t, way.to, "last words")
		mustEnd(t, way.to, io.EOF)
		if _, err := way.from.Write([]byte("more")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("write after CloseWrite: %v; want EPIPE", err)
		}
	}
}

func TestOpenerNeedNotWaitForTheAnswer(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, err := client.Open(t.Context(), connect)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	mustWrite(t, ours, "early")
	theirs := mustAccept(t, agent)
	defer theirs.Close()
	mustRead(t, theirs, "early")
	if err := theirs.Accepted(here); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, theirs, "answer")
	mustRead(t, ours, "answer")
	if got := ours.LocalAddr().String(); got != here.String() {
		t.Errorf("local address %s; want %s", got, here)
	}
	if got := ours.RemoteAddr().String(); got != shop.String() {
		t.Errorf("remote address %s; want %s", got, shop)
	}
}

func TestARefusalThatComesTooLateIsAReset(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, err := client.Open(t.Context(), connect)
	if err != nil {
		t.Fatal(err)
	}
	theirs := mustAccept(t, agent)
	if err := theirs.Accepted(netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	if err := ours.Opened(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Refuse(syscall.ECONNREFUSED); err == nil {
		t.Error("refused what was accepted")
	}
	if n, err := ours.Read(make([]byte, 10)); n > 0 || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	ours.Close()
	eventuallyEmpty(t, client, agent)
}

func TestRefusalCrossesWithItsErrnoAndHint(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, err := client.Open(t.Context(), connect)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, ours, "early bytes are void")
	theirs := mustAccept(t, agent)
	why := fmt.Errorf("connect 198.18.0.2:80: %w", &Error{Errno: syscall.ECONNREFUSED, Cause: "nobody listens", Advice: "start it"})
	if err := theirs.Refuse(why); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it stays refused
		_, err := ours.Read(make([]byte, 1))
		var e *Error
		if !errors.Is(err, syscall.ECONNREFUSED) || !errors.As(err, &e) || e.Advice != "start it" || e.Cause != "connect 198.18.0.2:80: nobody listens" {
			t.Fatalf("read: %#v", err)
		}
	}
	if err := ours.Opened(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatal(err)
	}
	ours.Close()
	eventuallyEmpty(t, client, agent)
}

func TestResetCarriesItsErrnoAndIsNeverACleanEnd(t *testing.T) {
	client, agent := mustCarriers(t)
	for range 200 {
		ours, theirs := mustOpen(t, client, agent)
		mustWrite(t, ours, "unread")
		ours.Reset(syscall.EHOSTUNREACH)
		// It may still read what came before the reset, but no end of file.
		if _, err := io.ReadAll(theirs); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Fatalf("read: %v; want EHOSTUNREACH", err)
		}
		if _, err := theirs.Write([]byte("x")); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Fatalf("write: %v; want EHOSTUNREACH", err)
		}
		if _, err := ours.Write([]byte("x")); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Fatalf("own write: %v; want EHOSTUNREACH", err)
		}
		theirs.Close()
	}
	eventuallyEmpty(t, client, agent)
}

func TestResetBeforeAcceptIsNeverACleanEnd(t *testing.T) {
	client, agent := mustCarriers(t)
	for range 200 {
		ours, err := client.Open(t.Context(), connect)
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, ours, "half a requ")
		ours.Reset(syscall.ECONNABORTED)
		theirs, err := agent.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = theirs.Opening(); err == nil {
			_, err = io.ReadAll(theirs)
		}
		if !errors.Is(err, syscall.ECONNABORTED) {
			t.Fatalf("read: %v; want ECONNABORTED", err)
		}
		theirs.Close()
	}
	eventuallyEmpty(t, client, agent)
}

func TestBothSidesMayResetAtOnce(t *testing.T) {
	client, agent := mustCarriers(t)
	for range 200 {
		ours, theirs := mustOpen(t, client, agent)
		var work sync.WaitGroup
		work.Go(func() { ours.Reset(syscall.ECONNRESET) })
		work.Go(func() { theirs.Reset(syscall.ECONNRESET) })
		work.Wait()
	}
	eventuallyEmpty(t, client, agent)
}

func TestCloseLetsThePeerReadAndStopsItsWrites(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, theirs := mustOpen(t, client, agent)
	mustWrite(t, ours, "answer")
	blocked := make(chan struct{})
	go func() {
		defer close(blocked)
		for err := error(nil); err == nil; {
			if _, err = theirs.Write(make([]byte, 1<<20)); err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("write: %v; want EPIPE", err)
			}
		}
	}()
	if err := ours.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, "writer hears that nobody reads", blocked)
	mustRead(t, theirs, "answer")
	mustEnd(t, theirs, io.EOF)
	theirs.Close()
	eventuallyEmpty(t, client, agent)
}

func TestCloseUnblocksOurReader(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, _ := mustOpen(t, client, agent)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v; want net.ErrClosed", err)
		}
	}()
	ours.Close()
	ours.Close()
	within(t, "reader returns", done)
}

func TestBrokenCarrierIsNeverACleanEnd(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, theirs := mustOpen(t, client, agent)
	ended, ender := mustOpen(t, client, agent)
	mustWrite(t, theirs, "half an ans")
	mustWrite(t, ender, "whole answer")
	if err := ender.Close(); err != nil {
		t.Fatal(err)
	}
	agent.Close()
	within(t, "client notices", client.Done())
	mustRead(t, ours, "half an ans")
	mustEnd(t, ours, syscall.ECONNRESET)
	mustRead(t, ended, "whole answer")
	mustEnd(t, ended, io.EOF)
	if err := client.Err(); err == nil || err.Error() != "agent closed the carrier" {
		t.Errorf("carrier ended with %v", err)
	}
	if _, err := client.Open(t.Context(), connect); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("open: %v; want ECONNRESET", err)
	}
	if _, err := client.Accept(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("accept: %v; want ECONNRESET", err)
	}
}

func TestDeadlinesAreThoseOfNetConn(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, err := client.Open(t.Context(), connect)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	// Also while the answer is not there yet; it is read to its end later.
	if err := ours.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	mustEnd(t, ours, os.ErrDeadlineExceeded)
	if err := ours.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	theirs := mustAccept(t, agent)
	defer theirs.Close()
	if err := theirs.Accepted(here); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, theirs, "x")
	mustRead(t, ours, "x")
	if err := ours.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := ours.Write(make([]byte, 2*streamWindow)); !errors.Is(err, os.ErrDeadlineExceeded) || n > streamWindow {
		t.Errorf("wrote %d, %v; want ErrDeadlineExceeded within the window", n, err)
	}
}

func TestOpenedGivesUpWithItsContext(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, err := client.Open(t.Context(), connect)
	if err != nil {
		t.Fatal(err)
	}
	theirs := mustAccept(t, agent)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := ours.Opened(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("opened: %v; want DeadlineExceeded", err)
	}
	mustEnd(t, theirs, syscall.ECANCELED)
	theirs.Close()
	eventuallyEmpty(t, client, agent)
}

func TestAgentOpensStreamsToo(t *testing.T) {
	client, agent := mustCarriers(t)
	theirs, err := agent.Open(t.Context(), &Open{What: &Open_Incoming{Incoming: &Incoming{
		Claim: 7, Client: AddressOf(here), Local: AddressOf(shop),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	mustWrite(t, theirs, "GET / HTTP/1.1\r\n")
	ours, err := client.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	what, err := ours.Opening()
	if err != nil || what.GetIncoming().GetClaim() != 7 {
		t.Fatal(what, err)
	}
	if ours.RemoteAddr().String() != here.String() || ours.LocalAddr().String() != shop.String() {
		t.Errorf("addresses %v, %v", ours.RemoteAddr(), ours.LocalAddr())
	}
	mustRead(t, ours, "GET / HTTP/1.1\r\n")
}

func TestThousandStreamsAtOnce(t *testing.T) {
	client, agent := mustCarriers(t)
	const streams = 1000
	var work sync.WaitGroup
	work.Go(func() {
		for range streams {
			s, err := agent.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			work.Go(func() { echo(t, s) })
		}
	})
	for i := range streams {
		work.Go(func() {
			s, err := client.Open(t.Context(), connect)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			sent := bytes.Repeat([]byte{byte(i)}, 1000+i)
			if _, err := s.Write(sent); err != nil {
				t.Error(err)
			}
			s.CloseWrite()
			if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("stream %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	work.Wait()
	eventuallyEmpty(t, client, agent)
}

func echo(tb testing.TB, s *Stream) {
	defer s.Close()
	if _, err := s.Opening(); err != nil {
		tb.Error(err)
		return
	}
	if err := s.Accepted(here); err != nil {
		tb.Error(err)
		return
	}
	if _, err := io.Copy(s, s); err != nil {
		tb.Error(err)
	}
	s.CloseWrite()
}

func TestSlowReaderHoldsUpNobodyElse(t *testing.T) {
	client, agent := mustCarriers(t)
	slow, _ := mustOpen(t, client, agent)
	full := make(chan struct{})
	go func() {
		defer close(full)
		_ = slow.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := slow.Write(make([]byte, 4*streamWindow)); !errors.Is(err, os.ErrDeadlineExceeded) || n > streamWindow {
			t.Errorf("wrote %d, %v; want no more than the window", n, err)
		}
	}()
	ours, theirs := mustOpen(t, client, agent)
	for range 100 {
		mustWrite(t, ours, "ping")
		mustRead(t, theirs, "ping")
		mustWrite(t, theirs, "pong")
		mustRead(t, ours, "pong")
	}
	within(t, "slow stream fills", full)
}

func TestIdleStreamKeepsNoMemoryOfALargeBody(t *testing.T) {
	client, agent := mustCarriers(t)
	const streams, body = 20, 3 << 20
	before := heap()
	for range streams {
		ours, theirs := mustOpen(t, client, agent)
		mustWrite(t, ours, string(make([]byte, body))) // all of it waits in the other side's buffer
		b := make([]byte, 100<<10)
		for rest := body; rest > 0; {
			n, err := theirs.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			rest -= n
		}
	}
	if kept := (heap() - before) / streams; kept > 128<<10 {
		t.Errorf("each stream keeps %d bytes", kept)
	}
}

func TestReadOfNothingWaitsForSomething(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, theirs := mustOpen(t, client, agent)
	_ = theirs.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := theirs.Read(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read of nothing while there is nothing: %v; want to wait for the deadline", err)
	}
	_ = theirs.SetReadDeadline(time.Time{})
	mustWrite(t, ours, "words")
	for range 2 { // it takes nothing away
		if n, err := theirs.Read(nil); n != 0 || err != nil {
			t.Fatalf("read of nothing while there is something: %d, %v", n, err)
		}
	}
	mustRead(t, theirs, "words")
	if err := ours.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Read(nil); !errors.Is(err, io.EOF) {
		t.Fatalf("read of nothing at the end: %v; want EOF", err)
	}
}

func TestStreamWritesAllItGetsToAWriter(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, theirs := mustOpen(t, client, agent)
	large := bytes.Repeat([]byte("magpie"), 1<<20)
	go func() {
		_, _ = ours.Write(large)
		_ = ours.CloseWrite()
	}()
	var got bytes.Buffer
	if n, err := io.Copy(&got, theirs); n != int64(len(large)) || err != nil {
		t.Fatalf("copied %d, %v; want %d", n, err, len(large))
	}
	if !bytes.Equal(got.Bytes(), large) {
		t.Error("other bytes came than were written")
	}
}

func TestStreamThatIsResetIsNoEndForAWriter(t *testing.T) {
	client, agent := mustCarriers(t)
	ours, theirs := mustOpen(t, client, agent)
	mustWrite(t, ours, "some")
	var got bytes.Buffer
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(&got, theirs)
		copied <- err
	}()
	ours.Reset(syscall.ENETRESET)
	if err := <-copied; !errors.Is(err, syscall.ENETRESET) {
		t.Fatalf("copy of a stream that is reset: %v; want ENETRESET", err)
	}
}

func TestTooManyStreamsAreRefused(t *testing.T) {
	client, agent := mustCarriers(t)
	client.mu.Lock()
	for i := range uint32(maxStreams) {
		client.streams[1<<30+2*i] = newStream(client, 1<<30+2*i)
	}
	client.mu.Unlock()
	if _, err := client.Open(t.Context(), connect); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("open: %v; want EMFILE", err)
	}
	theirs, err := agent.Open(t.Context(), connect)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _, _ = client.Accept() }()
	if err := theirs.Opened(t.Context()); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("opened: %v; want EMFILE", err)
	}
	theirs.Close()
	client.Close()
	within(t, "accept returns", done)
}

// eventuallyEmpty waits until both sides forgot all streams: nothing may pile up in a long session.
func eventuallyEmpty(tb testing.TB, carriers ...*Carrier) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	for _, c := range carriers {
		for {
			c.mu.Lock()
			ours := len(c.streams)
			c.mu.Unlock()
			if theirs := c.session.NumStreams(); ours == 0 && theirs == 1 { // the ends stream
				break
			} else if time.Now().After(deadline) {
				tb.Fatalf("%s still knows %d streams, yamux %d", c.us.we, ours, theirs)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

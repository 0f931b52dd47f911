package local

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

func TestAPipeIsAConnection(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		theirs, ours := mustPipe()
		return theirs, ours, func() { _, _ = theirs.Close(), ours.Close() }, nil
	})
}

func TestAPipeCarriesEachByteInOrder(t *testing.T) {
	theirs, ours := mustPipe()
	sent := make([]byte, 1<<20)
	for i := range sent {
		sent[i] = byte(i ^ i>>8 ^ i>>16)
	}
	go func() {
		for rest, n := sent, 1; len(rest) > 0; n = n*7%9973 + 1 {
			n = min(n, len(rest))
			if _, err := theirs.Write(rest[:n]); err != nil {
				t.Error(err)
			}
			rest = rest[n:]
		}
		_ = theirs.CloseWrite()
	}()
	got, err := io.ReadAll(ours)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes came of %d: %v", len(got), len(sent), err)
	}
	if cap(ours.in.buf) > maxWaiting {
		t.Errorf("%d bytes were kept", cap(ours.in.buf))
	}
	if _, err := ours.Write([]byte("still open")); err != nil {
		t.Error(err)
	}
}

func TestAnErrnoComesAfterTheBytesBeforeIt(t *testing.T) {
	theirs, ours := mustPipe()
	_, _ = ours.Write([]byte("answer"))
	ours.fail(syscall.ECONNREFUSED)
	ours.fail(syscall.EPIPE) // the first counts
	_ = ours.Close()
	got, err := io.ReadAll(theirs)
	if string(got) != "answer" || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := theirs.Write([]byte("x")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
}

func TestAResetDropsWhatWaits(t *testing.T) {
	theirs, ours := mustPipe()
	_, _ = theirs.Write([]byte("request"))
	theirs.Reset(syscall.ECONNRESET)
	if got, err := io.ReadAll(ours); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDeadlinesWakeWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs, ours := mustPipe()
		go func() {
			time.Sleep(time.Second)
			_ = theirs.SetReadDeadline(time.Unix(1, 0)) // as agent/route pokes
		}()
		if _, err := theirs.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		_ = theirs.SetReadDeadline(time.Time{})
		_, _ = ours.Write([]byte("x"))
		if n, err := theirs.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Error(n, err)
		}
		start := time.Now()
		_ = theirs.SetWriteDeadline(start.Add(time.Minute))
		n, err := theirs.Write(make([]byte, maxWaiting+1))
		if n != maxWaiting || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Error(n, err, time.Since(start))
		}
	})
}

func TestWhoListensDuringARequestIsNotToldOfTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs, ours := mustPipe()
		ours.in.served = true
		_ = theirs.CloseWrite()
		if n, err := ours.Read(make([]byte, 2)); n != 0 || err != io.EOF {
			t.Error("who reads a body:", n, err)
		}
		heard := make(chan error)
		go func() {
			_, err := ours.Read(make([]byte, 1))
			heard <- err
			_, err = ours.Read(make([]byte, 1))
			heard <- err
		}()
		synctest.Wait()
		select {
		case err := <-heard:
			t.Fatal("too early:", err)
		default:
		}
		_ = ours.SetReadDeadline(time.Unix(1, 0))
		if err := <-heard; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		_ = ours.SetReadDeadline(time.Time{})
		theirs.Reset(syscall.ECONNRESET)
		if err := <-heard; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}

func mustPipe() (*stream, *end) { return newPipe(pipeAddr{}, pipeAddr{}, func() {}) }

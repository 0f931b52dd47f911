package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// mustBond returns both ends of a bond of n unix sockets, when all have joined.
func mustBond(tb testing.TB, n int) (ours, theirs io.ReadWriteCloser) {
	tb.Helper()
	served, finish := make(chan io.ReadWriteCloser), make(chan struct{})
	g := NewGatherer(func(b io.ReadWriteCloser) { served <- b; <-finish })
	var work sync.WaitGroup
	dial := func(context.Context) (io.ReadWriteCloser, error) {
		a, b := mustPipe(tb)
		work.Go(func() { _ = g.Add(b) })
		return a, nil
	}
	first, _ := dial(tb.Context())
	bond := NewBond(first, dial, n)
	theirs = <-served
	tb.Cleanup(func() { bond.Close(); close(finish); work.Wait() })
	for n > len(pipesOf(bond)) || n > len(pipesOf(theirs.(*gathered).Bond)) {
		time.Sleep(time.Millisecond) // there is no event: nobody needs to know when a pipe has joined
	}
	return bond, theirs
}

func pipesOf(b *Bond) []*bondPipe {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pipes
}

func TestBondCarriesBytesInOrderBothWays(t *testing.T) {
	for _, n := range []int{1, 2, 8, maxPipes} {
		ours, theirs := mustBond(t, n)
		const size = 16 << 20
		data := make([]byte, size)
		rand.NewChaCha8([32]byte{}).Read(data)
		var work sync.WaitGroup
		for _, way := range []struct{ from, to io.ReadWriter }{{ours, theirs}, {theirs, ours}} {
			work.Go(func() {
				for rest := data; len(rest) > 0; {
					n := min(rand.IntN(200<<10)+1, len(rest))
					if _, err := way.from.Write(rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
			})
			work.Go(func() {
				got := make([]byte, size)
				if _, err := io.ReadFull(way.to, got); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d pipes: %v, or other bytes", n, err)
				}
			})
		}
		work.Wait()
	}
}

func TestBondCarriesACarrier(t *testing.T) {
	ours, theirs := mustBond(t, 4)
	client, agent := Client(ours), Agent(theirs)
	defer client.Close()
	defer agent.Close()
	a, b := mustOpen(t, client, agent)
	mustWrite(t, a, "hello")
	mustRead(t, b, "hello")
	mustWrite(t, b, "there")
	mustRead(t, a, "there")
}

func TestBondWorksWithTheFirstPipeAlone(t *testing.T) {
	served := make(chan io.ReadWriteCloser, 1)
	over := make(chan struct{})
	g := NewGatherer(func(b io.ReadWriteCloser) { served <- b; <-over })
	a, b := mustPipe(t)
	done := make(chan error)
	go func() { done <- g.Add(b) }()
	tried := make(chan struct{}, maxPipes)
	bond := NewBond(a, func(context.Context) (io.ReadWriteCloser, error) {
		tried <- struct{}{}
		return nil, syscall.ECONNREFUSED
	}, 3)
	theirs := <-served
	if err := bond.Answered(t.Context()); err != nil {
		t.Errorf("answered: %v", err)
	}
	<-tried
	<-tried
	mustWrite(t, bond, "hello")
	mustRead(t, theirs, "hello")
	mustWrite(t, theirs, "there")
	mustRead(t, bond, "there")
	bond.Close()
	mustEnd(t, theirs, io.EOF)
	close(over)
	if err := <-done; err != nil {
		t.Errorf("add: %v", err)
	}
}

func TestBondIsReadToItsEndAfterThePeerClosed(t *testing.T) {
	ours, theirs := mustBond(t, 8)
	const size = 1 << 20
	var work sync.WaitGroup
	work.Go(func() {
		mustWrite(t, theirs, string(make([]byte, size)))
		theirs.Close()
	})
	n, err := io.Copy(io.Discard, ours)
	if n != size || err != nil {
		t.Errorf("read %d bytes, %v; want %d", n, err, size)
	}
	work.Wait()
}

func TestBondEndsWithAnyOfItsPipes(t *testing.T) {
	ours, theirs := mustBond(t, 4)
	mustWrite(t, ours, "before")
	pipesOf(theirs.(*gathered).Bond)[2].conn.Close()
	mustRead(t, theirs, "before")
	mustEnd(t, ours, io.EOF)
	if _, err := ours.Write([]byte("after")); err == nil {
		t.Error("write to a bond that has lost a pipe: no error")
	}
	if _, err := io.Copy(io.Discard, theirs); err == nil {
		t.Error("read from a bond that has lost a pipe of ours: a clean end")
	}
}

func TestCloseUnblocksBothEndsOfABond(t *testing.T) {
	for _, end := range []string{"ours", "theirs"} {
		ours, theirs := mustBond(t, 3)
		var work sync.WaitGroup
		for _, b := range []io.ReadWriter{ours, theirs} {
			work.Go(func() { _, _ = io.Copy(io.Discard, b) })
			work.Go(func() {
				for {
					if _, err := b.Write(make([]byte, 1<<20)); err != nil {
						return
					}
				}
			})
		}
		if end == "ours" {
			ours.Close()
		} else {
			theirs.Close()
		}
		done := make(chan struct{})
		go func() { work.Wait(); close(done) }()
		within(t, "readers and writers end when "+end+" closes", done)
	}
}

func TestSlowReaderHoldsTheWriterOfABondBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pipes = 4
		ours, theirs := joined(pipes, net.Pipe)
		taken := 0
		go func() {
			for {
				n, err := ours.Write(make([]byte, 1000))
				taken += n
				if err != nil {
					return
				}
			}
		}()
		synctest.Wait()
		if most := pipes * (maxHeld + bondWindow); taken > most || taken < most/2 {
			t.Errorf("%d bytes were taken that nobody reads", taken)
		}
		if n, err := theirs.Write([]byte("the other way is free")); err != nil {
			t.Errorf("wrote %d: %v", n, err)
		}
		mustRead(t, ours, "the other way is free")
		ours.Close()
		theirs.Close()
	})
}

// TestBondIsAsFastAsItsPipesTogether has pipes with endless buffers, of which one is slower: what it is given early comes
// late all the same.
func TestBondIsAsFastAsItsPipesTogether(t *testing.T) {
	const pipes, perSecond, delay = 8, 3 << 20, 10 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		speed := perSecond / 2
		ours, theirs := joined(pipes, func() (net.Conn, net.Conn) {
			a, b := deepPipe(speed, delay)
			speed = perSecond
			return a, b
		})
		go func() {
			for {
				if _, err := ours.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
		const seconds = 5
		got := 0
		stop := time.AfterFunc(seconds*time.Second, func() { theirs.Close() })
		defer stop.Stop()
		buf := make([]byte, 64<<10)
		for {
			n, err := theirs.Read(buf)
			got += n
			if err != nil {
				break
			}
		}
		if want := (2*pipes - 1) * perSecond / 2 * seconds; got < want*9/10 {
			t.Errorf("%d bytes in %d s; all pipes together carry %d", got, seconds, want)
		}
		ours.Close()
		time.Sleep(time.Minute) // until all that is on its way has come
	})
}

// joined returns two bonds with pipes between them.
func joined(n int, pipe func() (net.Conn, net.Conn)) (ours, theirs *Bond) {
	ours, theirs = newBond(newBondID(), func() {}), newBond(newBondID(), func() {})
	for range n {
		a, b := pipe()
		ours.join(a, nil, nil)
		theirs.join(b, nil, nil)
	}
	return ours, theirs
}

// deepPipe takes all that is written at once, and delivers it in its own time.
func deepPipe(perSecond int, delay time.Duration) (net.Conn, net.Conn) {
	a, across := net.Pipe()
	there, b := net.Pipe()
	carry := func(to, from net.Conn) {
		type parcel struct {
			data []byte
			due  time.Time
		}
		queue, left := make(chan parcel, 1<<16), time.Now()
		go func() {
			defer close(queue)
			for {
				data := make([]byte, 32<<10)
				n, err := from.Read(data)
				if err != nil {
					return
				}
				if now := time.Now(); left.Before(now) {
					left = now
				}
				left = left.Add(time.Duration(n) * time.Second / time.Duration(perSecond))
				queue <- parcel{data[:n], left.Add(delay)}
			}
		}()
		go func() {
			for p := range queue {
				time.Sleep(time.Until(p.due))
				if _, err := to.Write(p.data); err != nil {
					from.Close()
				}
			}
			to.Close()
		}()
	}
	carry(there, across)
	carry(across, there)
	return a, b
}

func appendChunk(b []byte, number uint64, data []byte) []byte {
	return append(appendChunkHeader(b, number, len(data)), data...)
}

func TestBondWithAForeignPeerSaysSo(t *testing.T) {
	a, b := mustPipe(t)
	mustWrite(t, b, "HTTP/1.1 400 Bad Request\r\n\r\n")
	bond := NewBond(a, nil, 1)
	if err := bond.Answered(t.Context()); !errors.Is(err, syscall.EPROTO) {
		t.Errorf("answered: %v", err)
	}
	client := Client(bond)
	within(t, "client gives up", client.Done())
	if want := `not a Magpie agent: it said "HTTP/1.1"`; !strings.HasSuffix(client.Err().Error(), want) {
		t.Errorf("%v; want %s", client.Err(), want)
	}
	client.Close()
}

func TestChunksThatCannotBeEndTheBond(t *testing.T) {
	var beyond []byte
	for number := range uint64((maxHeld + bondWindow) / maxChunk) {
		beyond = appendChunk(beyond, number+1, make([]byte, maxChunk))
	}
	for name, said := range map[string][]byte{
		"acknowledgement of nothing": appendChunk(nil, 0, nil),
		"acknowledgement too early":  appendChunk(nil, 1, nil),
		"beyond the window":          beyond,
		"too long":                   appendChunk(nil, 0, make([]byte, maxChunk+1)),
		"twice":                      appendChunk(appendChunk(nil, 1, []byte("a")), 1, []byte("b")),
		"backward":                   appendChunk(appendChunk(nil, 2, []byte("a")), 1, []byte("b")),
	} {
		a, b := mustPipe(t)
		bond := newBond(newBondID(), func() {})
		bond.join(a, nil, nil)
		mustWrite(t, b, string(said))
		mustEnd(t, bond, syscall.EPROTO)
		if err := bond.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGathererRefusesPipesThatBelongNowhere(t *testing.T) {
	over := make(chan struct{})
	served := make(chan struct{})
	g := NewGatherer(func(io.ReadWriteCloser) { close(served); <-over })
	id := newBondID()
	a, b := mustPipe(t)
	mustWrite(t, a, string(bondHeader{id: id, count: 3}.append(nil)))
	var work sync.WaitGroup
	work.Go(func() { _ = g.Add(b) })
	within(t, "first pipe is served", served)
	for said, want := range map[string]string{
		string(bondHeader{id: newBondID(), index: 1, count: 3}.append(nil)): "add pipe 1 of 3: its bond is over",
		string(bondHeader{id: id, index: 0, count: 3}.append(nil)):          "add pipe 0 of 3: it is there",
		string(bondHeader{id: id, index: 3, count: 3}.append(nil)):          "read bond header: pipe 3 of 3",
		string(bondHeader{id: id, index: 1, count: 17}.append(nil)):         "read bond header: pipe 1 of 17",
		"GET / HTTP/1.1\r\n\r\n": `not a Magpie client: it said "GET / HT"`,
	} {
		a, b := mustPipe(t)
		mustWrite(t, a, said)
		if err := g.Add(b); err == nil || err.Error() != want {
			t.Errorf("add: %v; want %s", err, want)
		}
		if _, err := a.Read(make([]byte, 1)); err == nil {
			t.Errorf("after %s: the pipe is open", want)
		}
	}
	close(over)
	work.Wait()
}

func TestSilentPipeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		began := time.Now()
		err := NewGatherer(nil).Add(b)
		if err == nil || time.Since(began) != standard.greet {
			t.Errorf("add: %v after %v", err, time.Since(began))
		}
	})
}

func TestPipeThatIsNeverAnsweredDoesNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		served := make(chan io.ReadWriteCloser)
		g := NewGatherer(func(b io.ReadWriteCloser) { served <- b; _, _ = io.Copy(b, b) })
		a, b := net.Pipe()
		go func() { _ = g.Add(b) }()
		var hole net.Conn
		bond := NewBond(a, func(context.Context) (io.ReadWriteCloser, error) {
			near, far := net.Pipe()
			hole = far
			go func() { _, _ = io.Copy(io.Discard, far) }()
			return near, nil
		}, 2)
		<-served
		time.Sleep(standard.greet + time.Second)
		mustWrite(t, bond, "echo")
		mustRead(t, bond, "echo")
		if n := len(pipesOf(bond)); n != 1 {
			t.Errorf("%d pipes", n)
		}
		bond.Close()
		hole.Close()
	})
}

func FuzzBondHeader(f *testing.F) {
	f.Add(bondHeader{index: 1, count: 2}.append(nil))
	f.Add([]byte("magpie\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readBondHeader(iotest.OneByteReader(bytes.NewReader(b)))
		if err == nil && !bytes.Equal(h.append(nil), b[:bondHeaderSize]) {
			t.Fatalf("%x reads as %x", b, h.append(nil))
		}
	})
}

// FuzzBond gives a bond garbage on two pipes: it may end, but not hang or panic, and what it gives was said.
func FuzzBond(f *testing.F) {
	f.Add(appendChunk(nil, 0, []byte("hello")), appendChunk(nil, 1, []byte("there")))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		bond := newBond(newBondID(), func() {})
		for _, said := range [][]byte{one, two} {
			bond.join(&script{Reader: bytes.NewReader(said)}, nil, nil)
		}
		got, err := io.ReadAll(bond)
		if len(got) > len(one)+len(two) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(one)+len(two), err)
		}
		bond.Close()
	})
}

// A script is a pipe that has said all it will.
type script struct{ *bytes.Reader }

func (*script) Write(b []byte) (int, error) { return len(b), nil }
func (*script) Close() error                { return nil }

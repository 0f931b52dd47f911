package h2

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func add(s string) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, s...) }
}

// gate lets a write begin, and end.
type gate struct {
	bytes.Buffer
	begun, let chan struct{}
}

func (g *gate) Write(b []byte) (int, error) {
	g.begun <- struct{}{}
	<-g.let
	return g.Buffer.Write(b)
}

func TestWhatIsAddedWaitsForTheBorder(t *testing.T) {
	g := &gate{begun: make(chan struct{}), let: make(chan struct{})}
	o := newOutbox(g)
	step := func() {
		<-g.begun
		g.let <- struct{}{}
	}
	done := make(chan struct{})
	write := func(s string, inside bool) {
		go func() {
			_ = o.write([]byte(s), inside)
			done <- struct{}{}
		}()
	}
	write("[half", true)
	<-g.begun
	o.add(add("(added)"))
	write("", false) // waits, for what was added
	g.let <- struct{}{}
	<-done
	<-done
	write(" whole]", false)
	step() // the rest
	step() // what was added
	<-done
	o.add(add("(alone)"))
	step()
	o.close()
	if got, want := g.String(), "[half whole](added)(alone)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestBrokenOutboxTellsWhoWaits(t *testing.T) {
	o := newOutbox(broken{})
	o.add(add("x"))
	for range 3 {
		if err := o.write([]byte("y"), false); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v", err)
		}
	}
	o.close()
	if o.waiting() > 1 {
		t.Errorf("%d bytes wait for nobody", o.waiting())
	}
}

// A block that could not go before the client's table shrank names the new size (RFC 7541 section 4.2), and only the first does.
func TestFirstBlockAfterATableShrankNamesIt(t *testing.T) {
	var out bytes.Buffer
	o := newOutbox(&out)
	o.inside = true
	o.addBlock(1, []byte{0x88}, false)
	o.addBlock(3, []byte{0x88}, false)
	if err := o.writeThen([]byte("the ACK"), false, func() { o.shrunk = 0 }); err != nil {
		t.Fatal(err)
	}
	want := append([]byte("the ACK"), appendBlock(nil, 1, []byte{0x20, 0x88}, plainFrame, false, nil)...)
	want = append(want, appendBlock(nil, 3, []byte{0x88}, plainFrame, false, nil)...)
	o.close()
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("got %q, want %q", out.Bytes(), want)
	}
	o = newOutbox(&out)
	out.Reset()
	_ = o.writeThen([]byte("the ACK"), false, func() { o.shrunk = 100 })
	o.addBlock(1, []byte{0x88}, true)
	_ = o.write(nil, false)
	o.close()
	if want := append([]byte("the ACK"), appendBlock(nil, 1, []byte{0x3f, 100 - 31, 0x88}, plainFrame, true, nil)...); !bytes.Equal(out.Bytes(), want) {
		t.Errorf("got %q, want %q", out.Bytes(), want)
	}
}

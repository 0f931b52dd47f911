package session

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// A turn is what a client says and what it is answered, both to the byte.
type turn struct{ says, answer string }

// recorder is an original that knows nothing of HTTP: it has the conversation that it is told to have.
type recorder struct {
	listener net.Listener

	mu   sync.Mutex
	next *conversation
}

// conversation is what an original heard on one connection.
type conversation struct {
	turns []turn
	done  chan struct{} // closed when the connection has ended

	mu          sync.Mutex
	heard       bytes.Buffer
	connections int
}

// startRecorder starts one in the target. Until it has a conversation it listens and says nothing.
func startRecorder(tb testing.TB, n *testnet.Net, addr string) *recorder {
	tb.Helper()
	r := &recorder{next: &conversation{turns: []turn{{says: strings.Repeat("?", 1<<20)}}, done: make(chan struct{})}}
	n.Target.Do(tb, func() (err error) {
		r.listener, err = net.Listen("tcp", addr)
		return err
	})
	tb.Cleanup(func() { r.listener.Close() })
	go r.serve()
	return r
}

func (r *recorder) serve() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		next := r.next
		r.mu.Unlock()
		go next.hold(c.(*net.TCPConn))
	}
}

// hold takes as many bytes as the next turn has, answers, and at the end takes what else comes.
func (v *conversation) hold(c *net.TCPConn) {
	v.mu.Lock()
	v.connections++
	if v.connections == 1 {
		defer close(v.done)
	}
	v.mu.Unlock()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testrun.Patience))
	for _, t := range v.turns {
		if _, err := io.CopyN(v, c, int64(len(t.says))); err != nil {
			return
		}
		if _, err := io.WriteString(c, t.answer); err != nil {
			return
		}
	}
	_ = c.CloseWrite()
	_, _ = io.Copy(v, c)
}

// Write keeps what was heard.
func (v *conversation) Write(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.heard.Write(b)
}

// have has a conversation over one connection, in pieces of some size, and returns what each side heard. A client that
// pipelines says everything before it listens.
func (r *recorder) have(tb testing.TB, from *testnet.Host, addr string, turns []turn, pipelined bool, piece int) (original, client string) {
	tb.Helper()
	v := &conversation{turns: turns, done: make(chan struct{})}
	r.mu.Lock()
	r.next = v
	r.mu.Unlock()
	c, err := dial(from, addr)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testrun.Patience))
	var heard bytes.Buffer
	for _, t := range turns {
		say(tb, c, t.says, piece)
		if pipelined {
			continue
		}
		if _, err := io.CopyN(&heard, c, int64(len(t.answer))); err != nil {
			tb.Errorf("after %.100q, heard %.500q: %v", t.says, heard.String(), err)
			break
		}
	}
	if _, err := io.Copy(&heard, c); err != nil {
		tb.Errorf("heard %.500q: %v", heard.String(), err)
	}
	c.Close()
	select {
	case <-v.done:
	case <-time.After(testrun.Patience):
		tb.Errorf("the original's connection did not end")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.connections != 1 {
		tb.Errorf("the original had %d connections", v.connections)
	}
	return v.heard.String(), heard.String()
}

func say(tb testing.TB, c net.Conn, text string, piece int) {
	tb.Helper()
	for len(text) > 0 {
		n := min(piece, len(text))
		if _, err := io.WriteString(c, text[:n]); err != nil {
			tb.Errorf("say %.100q: %v", text[:n], err)
			return
		}
		text = text[n:]
	}
}

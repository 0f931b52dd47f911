package route

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// zeros gives n bytes without having them.
func zeros(n int64) io.Reader { return io.LimitReader(zero{}, n) }

type zero struct{}

func (zero) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// resident returns the bytes of memory that the process has from the kernel.
func resident(tb testing.TB) int {
	tb.Helper()
	status, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(status))[1])
	if err != nil {
		tb.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func TestBodiesOfAnySizeStreamBothWaysInConstantMemory(t *testing.T) {
	size := int64(2 << 30)
	if testing.Short() {
		size = 64 << 20
	}
	const memoryBound = 64 << 20
	// Both directions at once: the answer begins with the first byte of the body.
	echo := mustHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		n, err := io.Copy(w, r.Body)
		if err != nil || n != r.ContentLength && r.ContentLength >= 0 {
			t.Errorf("echoed %d: %v", n, err)
		}
	})
	s := mustStage(t, echo, 0)
	s.claim("me", mine, echo)
	before := resident(t)
	for _, c := range []struct {
		user   string
		length int64
	}{{"", size}, {"", -1}, {"me", size}, {"me", -1}} {
		t.Run(fmt.Sprintf("user %q, length %d", c.user, min(c.length, size/4)), func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr, io.NopCloser(zeros(size/4)))
			if err != nil {
				t.Fatal(err)
			}
			if req.ContentLength = c.length; c.length > 0 {
				req.ContentLength = size / 4
			}
			req.Header.Set("X-User", c.user)
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size/4 {
				t.Fatalf("got %d bytes, %v", n, err)
			}
		})
	}
	if grown := resident(t) - before; grown > memoryBound {
		t.Errorf("%d MiB more than before", grown>>20)
	}
}

// Long bodies go through the kernel; their untimely ends must not get lost there.
func TestLongBodiesThatStopHalfWay(t *testing.T) {
	const length, half = 8 * haulFrom, 3*haulFrom + 7
	long := fmt.Sprintf("POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n", length)
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", length)
	for name, c := range map[string]struct {
		client, original func(*testing.T, *net.TCPConn)
	}{
		"client half-closes": {
			func(t *testing.T, conn *net.TCPConn) {
				_, _ = io.WriteString(conn, long)
				_, _ = io.Copy(conn, zeros(half))
				_ = conn.CloseWrite()
				expect(t, conn, original)
			},
			func(t *testing.T, conn *net.TCPConn) {
				expect(t, conn, long)
				if n, err := io.Copy(io.Discard, conn); n != half || err != nil {
					t.Errorf("read %d, %v", n, err)
				}
				_, _ = io.WriteString(conn, original)
			},
		},
		"client resets": {
			func(t *testing.T, conn *net.TCPConn) {
				_, _ = io.WriteString(conn, long)
				_, _ = io.Copy(conn, zeros(half))
				_ = conn.SetLinger(0)
			},
			func(t *testing.T, conn *net.TCPConn) {
				if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("got %v, want a reset", err)
				}
			},
		},
		"original truncates": {
			func(t *testing.T, conn *net.TCPConn) {
				play(t, conn, step{get, answer})
				if n, err := io.Copy(io.Discard, conn); n != half || err != nil {
					t.Errorf("read %d, %v", n, err)
				}
			},
			func(t *testing.T, conn *net.TCPConn) {
				expect(t, conn, get)
				_, _ = io.WriteString(conn, answer)
				_, _ = io.Copy(conn, zeros(half))
			},
		},
		"original answers early and closes": {
			func(t *testing.T, conn *net.TCPConn) {
				_, _ = io.WriteString(conn, long)
				go func() { _, _ = io.Copy(conn, zeros(half)) }()
				expect(t, conn, original)
			},
			func(t *testing.T, conn *net.TCPConn) {
				expect(t, conn, long)
				_, _ = io.CopyN(io.Discard, conn, haulFrom)
				_, _ = io.WriteString(conn, original)
				_ = conn.CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
			},
		},
		"client goes while it is answered": {
			func(t *testing.T, conn *net.TCPConn) {
				play(t, conn, step{get, answer})
				_, _ = io.CopyN(io.Discard, conn, half)
			},
			func(t *testing.T, conn *net.TCPConn) {
				expect(t, conn, get)
				_, _ = io.WriteString(conn, answer)
				if n, err := io.Copy(conn, zeros(1<<40)); err == nil {
					t.Errorf("wrote %d", n)
				}
			},
		},
		"more follows": {
			func(t *testing.T, conn *net.TCPConn) {
				play(t, conn, step{get, answer})
				_, _ = io.CopyN(io.Discard, conn, length)
				play(t, conn, step{get, original})
			},
			func(t *testing.T, conn *net.TCPConn) {
				expect(t, conn, get)
				_, _ = io.WriteString(conn, answer)
				_, _ = io.Copy(conn, zeros(length))
				expect(t, conn, get)
				_, _ = io.WriteString(conn, original)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			done := make(chan struct{})
			s := mustStageClaimed(t, mustListen(t, func(_ context.Context, conn net.Conn) {
				defer close(done)
				c.original(t, conn.(*net.TCPConn))
			}))
			conn := mustDial(t, s.addr)
			c.client(t, conn)
			_ = conn.Close()
			<-done
		})
	}
}

func TestRequestAfterALongAnswerIsStolen(t *testing.T) {
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 2*haulFrom)
	s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) {
		expect(t, conn, get)
		_, _ = io.WriteString(conn, answer)
		_, _ = io.Copy(conn, zeros(2*haulFrom))
		_, _ = io.Copy(io.Discard, conn)
	}), 0)
	s.claim("me", mine, mustListen(t, scripted(t, step{getMine, local})))
	conn := mustDial(t, s.addr)
	play(t, conn, step{get, answer})
	_, _ = io.CopyN(io.Discard, conn, 2*haulFrom)
	play(t, conn, step{getMine, local})
}

func TestIdleConnectionsCostLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	const conns, perConn = 1000, 32 << 10
	var served sync.WaitGroup
	s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) {
		buf := make([]byte, 256)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			if n != len(get) {
				t.Errorf("read %d bytes", n)
			}
			_, _ = io.WriteString(conn, original)
		}
	}), 0)
	s.claim("me", mine, mustListen(t, scripted(t)))
	clients := make([]net.Conn, conns)
	for i := range clients {
		clients[i] = mustDial(t, s.addr)
		served.Go(func() { play(t, clients[i], step{get, original}, step{get, original}) })
	}
	served.Wait()
	runtime.GC()
	runtime.GC() // pools keep their victims for one
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	// This counts the clients' and the original's side as well.
	if got := (stats.HeapInuse + stats.StackInuse) / conns; got > perConn {
		t.Errorf("%d KiB for each of %d idle connections", got>>10, conns)
	}
	t.Logf("heap %d KiB, stacks %d KiB, %d goroutines", stats.HeapInuse>>10, stats.StackInuse>>10, runtime.NumGoroutine())
}

func TestPassedRequestsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := mustStage(t, mustListen(t, parrot), 0)
	s.claim("me", mine, mustListen(t, scripted(t)))
	conn := mustDial(t, s.addr)
	_ = conn.SetDeadline(time.Time{})
	answer, say := make([]byte, len(original)), []byte(get)
	once := func() {
		_, _ = conn.Write(say)
		if _, err := io.ReadFull(conn, answer); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		once()
	}
	if n := testing.AllocsPerRun(2000, once); n >= 1 {
		t.Errorf("%v allocations per request", n)
	}
}

// parrot answers every read with the same small answer.
func parrot(_ context.Context, conn net.Conn) {
	buf := make([]byte, 4<<10)
	answer := []byte(original)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// A client that asks without end and an original that does not answer are not our memory's concern.
func TestRequestsOnTheirWayAreBounded(t *testing.T) {
	let := make(chan struct{})
	const n = 4 * maxPipelined
	s := mustStageClaimed(t, mustListen(t, func(_ context.Context, conn net.Conn) {
		expect(t, conn, strings.Repeat(get, maxPipelined))
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if k, err := conn.Read(make([]byte, 1)); k > 0 || err == nil {
			t.Error("one more came")
		}
		close(let)
		_, _ = io.WriteString(conn, strings.Repeat(original, maxPipelined))
		for range n - maxPipelined {
			if expect(t, conn, get) {
				_, _ = io.WriteString(conn, original)
			}
		}
	}))
	conn := mustDial(t, s.addr)
	_, _ = io.WriteString(conn, strings.Repeat(get, n))
	<-let
	expect(t, conn, strings.Repeat(original, n))
}

func BenchmarkPass(b *testing.B) {
	s := mustStage(b, mustListen(b, parrot), 0)
	s.claim("me", mine, mustListen(b, scripted(b)))
	benchmark(b, s.addr, get)
}

func BenchmarkSteal(b *testing.B) {
	s := mustStage(b, mustListen(b, parrot), 0)
	s.claim("me", mine, mustListen(b, parrot))
	benchmark(b, s.addr, getMine)
}

func BenchmarkDirect(b *testing.B) { benchmark(b, mustListen(b, parrot), get) }

func benchmark(b *testing.B, addr, say string) {
	conn := mustDial(b, addr)
	_ = conn.SetDeadline(time.Time{})
	r := bufio.NewReader(conn)
	answer, ask := make([]byte, len(original)), []byte(say)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = conn.Write(ask)
		if _, err := io.ReadFull(r, answer); err != nil {
			b.Fatal(err)
		}
	}
}

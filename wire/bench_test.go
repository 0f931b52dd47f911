package wire

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// cpu returns the CPU time of this process, which is both sides here.
func cpu(tb testing.TB) int64 {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkRoundTrip sends 64 bytes and waits for 200, as a small request and its answer. The CPU time is that of
// both sides together.
func BenchmarkRoundTrip(b *testing.B) {
	for _, streams := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			client, agent := mustCarriers(b)
			var work sync.WaitGroup
			before := int64(0)
			start := make(chan struct{})
			for range streams {
				ours, theirs := mustOpen(b, client, agent)
				work.Go(func() { serveRoundTrips(theirs) })
				work.Go(func() {
					<-start
					defer ours.Close()
					request, answer := make([]byte, 64), make([]byte, 200)
					for range b.N / streams {
						if _, err := ours.Write(request); err != nil {
							b.Error(err)
							return
						}
						if _, err := io.ReadFull(ours, answer); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			before = cpu(b)
			b.ReportAllocs()
			b.ResetTimer()
			close(start)
			work.Wait()
			b.StopTimer()
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

func serveRoundTrips(s *Stream) {
	defer s.Close()
	request, answer := make([]byte, 64), make([]byte, 200)
	for {
		if _, err := io.ReadFull(s, request); err != nil {
			return
		}
		if _, err := s.Write(answer); err != nil {
			return
		}
	}
}

// BenchmarkThroughput sends one way, in writes of 32 KiB as io.Copy does.
func BenchmarkThroughput(b *testing.B) {
	client, agent := mustCarriers(b)
	ours, theirs := mustOpen(b, client, agent)
	block := make([]byte, 32<<10)
	b.SetBytes(int64(len(block)))
	b.ResetTimer()
	var work sync.WaitGroup
	work.Go(func() {
		for range b.N {
			if _, err := ours.Write(block); err != nil {
				b.Error(err)
				return
			}
		}
		ours.CloseWrite()
	})
	if _, err := io.Copy(io.Discard, theirs); err != nil {
		b.Error(err)
	}
	work.Wait()
}

// BenchmarkOpen opens a stream, sends a request with it, reads the answer and closes: what a new connection costs.
func BenchmarkOpen(b *testing.B) {
	client, agent := mustCarriers(b)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			s, err := agent.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				if _, err := s.Opening(); err == nil && s.Accepted(here) == nil {
					serveRoundTrips(s)
				}
			})
		}
	})
	request, answer := make([]byte, 64), make([]byte, 200)
	before := cpu(b)
	for b.Loop() {
		s, err := client.Open(b.Context(), connect)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(s, answer); err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
	client.Close()
	agent.Close()
	work.Wait()
}

// BenchmarkIdleStream reports the memory of a stream that has carried some requests and waits for more; both sides.
func BenchmarkIdleStream(b *testing.B) {
	const streams = 1000
	for b.Loop() {
		client, agent := mustCarriers(b)
		before := heap()
		var all []*Stream
		for range streams {
			ours, theirs := mustOpen(b, client, agent)
			for range 10 {
				mustWrite(b, ours, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
				mustRead(b, theirs, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
				mustWrite(b, theirs, "HTTP/1.1 204 No Content\r\n\r\n")
				mustRead(b, ours, "HTTP/1.1 204 No Content\r\n\r\n")
			}
			all = append(all, ours, theirs)
		}
		b.ReportMetric(float64(heap()-before)/streams, "B/stream")
		for _, s := range all {
			s.Close()
		}
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

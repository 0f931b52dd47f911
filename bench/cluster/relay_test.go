package main

import (
	"io"
	"net"
	"testing"
	"time"
)

func TestRelayCarriesAWindowInARoundTrip(t *testing.T) {
	const trip, trips = 20 * time.Millisecond, 10
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	go func() {
		conn, err := far.Accept()
		if err != nil {
			return
		}
		io.Copy(conn, conn)
		conn.Close()
	}()
	r, err := newRelay(far.Addr().String(), trip, narrow)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	go func() {
		conn.Write(make([]byte, trips*narrow))
		conn.(*net.TCPConn).CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, conn); n != trips*narrow || err != nil {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	if took := time.Since(began); took < trips*trip {
		t.Errorf("%d windows took %v", trips, took)
	}
}

func TestSpeedIsTheMedianOfEachFigure(t *testing.T) {
	got := parseSpeed("down 1000\nup 3\nfresh 0.5\ndown 3000\nkept 0.1\ndown 2000\n")
	if want := (speed{16000, 24, 0.5, 0.1}); got != want {
		t.Errorf("%v; want %v", got, want)
	}
}

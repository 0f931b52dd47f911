package agent_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/client"
	"github.com/magpie-k8s/magpie/internal/testnet"
)

// TestClaimsComeAndGoUnseen: two sessions claim and release a port all the time, while others' clients and their own use it.
func TestClaimsComeAndGoUnseen(t *testing.T) {
	const lasting = 2 * time.Second
	n := testnet.New(t)
	startOriginal(t, n.Target, "8080")
	socket := startAgent(t, n.Target)
	sessions := map[string]*client.Session{"me": openSession(t, socket, "me"), "you": openSession(t, socket, "you")}
	goroutines, files := runtime.NumGoroutine(), countFiles(t)

	stop := make(chan struct{})
	var work sync.WaitGroup
	for user, s := range sessions {
		work.Go(func() { comeAndGo(t, s, user, stop) })
	}
	var asked atomic.Int64
	var wrong sync.Map
	for i := range 12 {
		addr := net.JoinHostPort([]string{n.Target.Addr4.String(), n.Target.Addr6.String()}[i%2], "8080")
		user := []string{"", "", "me", "you"}[i/2%4]
		keep := 1 + i%3*20
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n, err := askSome(n.Client, addr, user, keep)
				asked.Add(int64(n))
				if err != nil {
					wrong.Store(fmt.Sprintf("%q: %v", user, err), true)
				}
			}
		})
	}
	time.Sleep(lasting)
	close(stop)
	work.Wait()
	wrong.Range(func(what, _ any) bool { t.Error(what); return true })
	t.Logf("%d requests", asked.Load())
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		g, f := runtime.NumGoroutine(), countFiles(t)
		if g <= goroutines+2 && f <= files+2 {
			return
		}
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, were %d; %d descriptors, were %d\n%s", g, goroutines, f, files, buf[:runtime.Stack(buf, true)])
		}
	}
}

func countFiles(tb testing.TB) int {
	tb.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	return len(open)
}

// comeAndGo claims and releases a port until stop.
func comeAndGo(t *testing.T, s *client.Session, user string, stop <-chan struct{}) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := s.Claim(t.Context(), 8080, client.Wish{Filter: mustHeader(t, "x-user: "+user)})
		if err != nil {
			t.Error(err)
			return
		}
		server := &http.Server{Handler: who(user)}
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener{c}) }()
		<-tick.C
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		<-served
		select {
		case <-stop:
			server.Close()
			return
		case <-tick.C:
		}
	}
}

// askSome sends requests over one connection, keep of them at the most, and returns how many were answered.
func askSome(from *testnet.Host, addr, user string, keep int) (n int, err error) {
	var c net.Conn
	err = from.NS.Do(func() (err error) { c, err = net.DialTimeout("tcp", addr, patience); return err })
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(c)
	for range keep {
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: shop\r\nX-User: %s\r\n\r\n", user); err != nil {
			return n, err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return n, fmt.Errorf("answer %d: %w", n, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return n, fmt.Errorf("body of answer %d: %w", n, err)
		}
		by, saw, _ := strings.Cut(string(body), " saw ")
		if by != "original" && by != user {
			return n, fmt.Errorf("answered %d %q", resp.StatusCode, body)
		}
		if by == user && saw != c.LocalAddr().String() {
			return n, fmt.Errorf("%s saw %s, not %s", by, saw, c.LocalAddr())
		}
		n++
		if resp.Close {
			return n, nil
		}
	}
	return n, nil
}

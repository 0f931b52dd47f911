package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/magpie-k8s/magpie/agent/route"
	"github.com/magpie-k8s/magpie/filters"
)

// mustRoute puts a router before an original that speaks the client's protocol. Requests with `x-user: me` are the session's.
func mustRoute(tb testing.TB, original string, open func(context.Context, route.Visit) (route.Stream, error)) string {
	tb.Helper()
	mine, err := filters.Header("x-user: me")
	if err != nil {
		tb.Fatal(err)
	}
	port := new(route.Port)
	port.Add(&route.Claim{Session: "anna@laptop", Filter: mine, Open: open})
	proxy := route.New(route.Config{DialOriginal: func(ctx context.Context, _, _ netip.AddrPort) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", original)
	}})
	ctx, cancel := context.WithCancel(context.Background())
	addr := mustListen(tb, func(conn net.Conn) { proxy.Serve(ctx, conn, port) })
	tb.Cleanup(cancel)
	return addr
}

func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, name+" "+r.Method+" "+string(body))
	}
}

// Behind a router, only who asked for another protocol sees it.
func TestARouterNeedNotKnow(t *testing.T) {
	for _, pair := range pairs {
		t.Run(pair.name, func(t *testing.T) {
			s := mustStage(t, mustServe(t, pair.to, named("local")), pair.from, pair.to)
			addr := mustRoute(t, mustServe(t, pair.from, named("original")), func(ctx context.Context, v route.Visit) (route.Stream, error) {
				stream, err := s.dial(ctx, "", "")
				if err != nil {
					return nil, err
				}
				return stream.(route.Stream), nil
			})
			client := mustClient(t, pair.from, nil)
			big := string(bytes.Repeat([]byte("melon"), 100_000))
			for range 5 {
				for _, body := range []string{"", "x", big} {
					r := mustRequest(t, "POST", "http://"+addr+"/", strings.NewReader(body))
					if _, got := mustDo(t, client, r); got != "original POST "+body {
						t.Fatalf("others': %.100q", got)
					}
					r = mustRequest(t, "POST", "http://"+addr+"/", strings.NewReader(body))
					r.Header.Set("X-User", "me")
					if _, got := mustDo(t, client, r); got != "local POST "+body {
						t.Fatalf("mine: %.100q", got)
					}
				}
			}
			client.CloseIdleConnections()
		})
	}
}

func TestARouterAsksTheOriginalInstead(t *testing.T) {
	gone := mustListen(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1000)) })
	for _, pair := range pairs {
		for name, open := range map[string]func(context.Context) (Stream, error){
			"refused":        func(context.Context) (Stream, error) { return nil, syscall.ECONNREFUSED },
			"refused, later": func(context.Context) (Stream, error) { return late{errno: syscall.ECONNREFUSED}, nil },
			"gone": func(ctx context.Context) (Stream, error) {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", gone)
				if err != nil {
					return nil, err
				}
				return conn.(*net.TCPConn), nil
			},
		} {
			t.Run(pair.name+", "+name, func(t *testing.T) {
				addr := mustRoute(t, mustServe(t, pair.from, named("original")), func(ctx context.Context, v route.Visit) (route.Stream, error) {
					stream, err := Adapt(ctx, open, pair.from, pair.to)
					if err != nil {
						return nil, err
					}
					return stream, nil
				})
				client := mustClient(t, pair.from, nil)
				for _, method := range []string{"GET", "POST"} {
					r := mustRequest(t, method, "http://"+addr+"/", nil)
					if method == "POST" {
						r = mustRequest(t, method, "http://"+addr+"/", strings.NewReader("hello"))
					}
					r.Header.Set("X-User", "me")
					res, err := client.Do(r)
					if err != nil {
						t.Errorf("%s: %v", method, err)
						continue
					}
					body, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if err != nil && !errors.Is(err, io.EOF) {
						t.Error(err)
					}
					// What may have been acted on is not asked twice.
					if acted := name == "gone" && method == "POST"; acted && (res.StatusCode != 502 || !strings.Contains(string(body), "Magpie: ")) ||
						!acted && !strings.HasPrefix(string(body), "original "+method) {
						t.Errorf("%s: %d %q", method, res.StatusCode, body)
					}
				}
				client.CloseIdleConnections()
			})
		}
	}
}

package older

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// dialFrom dials from inside a namespace.
func dialFrom(h *testnet.Host) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(_ context.Context, network, addr string) (c net.Conn, err error) {
		err = h.NS.Do(func() error { c, err = net.DialTimeout(network, addr, patience); return err })
		return c, err
	}
}

// httpClient keeps its connections.
type httpClient struct{ http.Client }

func newHTTPClient(tb testing.TB, n *testnet.Net) *httpClient {
	transport := &http.Transport{DialContext: dialFrom(n.Client)}
	tb.Cleanup(transport.CloseIdleConnections)
	return &httpClient{http.Client{Transport: transport, Timeout: patience}}
}

func (c *httpClient) get(from netip.Addr) (string, error) {
	resp, err := c.Get("http://" + netip.AddrPortFrom(from, port).String())
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(b)), err
}

func (c *httpClient) mustGet(tb testing.TB, from netip.Addr, want string) {
	tb.Helper()
	if got, err := c.get(from); got != want || err != nil {
		tb.Fatalf("answered by %q, %v; want %s", got, err, want)
	}
}

func TestKeptHTTPConnectionsComeToTheClaimWhenFlushed(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "http", "[::]:8080")
	var clients []*httpClient
	for range 3 {
		c := newHTTPClient(t, n)
		c.mustGet(t, n.Target.Addr4, "original")
		c.mustGet(t, n.Target.Addr6, "original")
		clients = append(clients, c)
	}
	mustClaim(t, n.Target, func(l net.Listener) { http.Serve(l, named("local")) })
	found := mustFindQuick(t, n.Target)
	for _, c := range clients {
		c.mustGet(t, n.Target.Addr4, "original") // until it is flushed
	}
	mustFlush(t, found, Outcome{Closed: 6})
	for _, c := range clients {
		c.mustGet(t, n.Target.Addr4, "local")
		c.mustGet(t, n.Target.Addr6, "local")
	}
}

// TestAKeptConnectionOfCurlComesToTheClaimWhenFlushed between two requests, some seconds apart, of one curl.
func TestAKeptConnectionOfCurlComesToTheClaimWhenFlushed(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "http", "[::]:8080")
	url := "http://" + netip.AddrPortFrom(n.Target.Addr4, port).String()
	curl := exec.Command("curl", "-sSN", "--rate", "20/m", "-w", "%{num_connects} opened\n", url, url, url)
	out, err := curl.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	curl.Stderr = curl.Stdout
	n.Client.Start(t, curl)
	p := &program{Cmd: curl}
	p.lines = newLines(out)
	p.mustSay(t, "original")
	mustClaim(t, n.Target, func(l net.Listener) { http.Serve(l, named("local")) })
	mustFlush(t, mustFindQuick(t, n.Target), Outcome{Closed: 1})
	for _, want := range []string{"1 opened", "local", "1 opened", "local", "0 opened"} {
		p.mustSay(t, want)
	}
}

func mustOpenChannel(tb testing.TB, n *testnet.Net) *grpc.ClientConn {
	tb.Helper()
	channel, err := grpc.NewClient("passthrough:///"+netip.AddrPortFrom(n.Target.Addr4, port).String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dialFrom(n.Client)(ctx, "tcp", addr) }))
	if err != nil {
		tb.Fatal(err)
	}
	return channel
}

func TestAChannelOfGRPCComesToTheClaimWhenFlushed(t *testing.T) {
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "grpc", "[::]:8080")
	channel := mustOpenChannel(t, n)
	defer channel.Close()
	ask := func(who string) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := healthpb.NewHealthClient(channel).Check(ctx, &healthpb.HealthCheckRequest{Service: who})
		return err
	}
	if err := ask("original"); err != nil {
		t.Fatal(err)
	}
	local := healthy("local")
	defer local.Stop()
	mustClaim(t, n.Target, func(l net.Listener) { local.Serve(l) })
	found := mustFind(t, n.Target)
	if err := ask("original"); err != nil || found.Len() != 1 {
		t.Fatalf("%d found, %v", found.Len(), err)
	}
	mustFlush(t, found, Outcome{Closed: 1})
	if err := ask("local"); err != nil {
		t.Error(err)
	}
}

// TestNoRequestFailsWhileConnectionsAreFlushed of clients that ask all the time, and ask again where HTTP lets them: what sets out at the very moment is lost.
func TestNoRequestFailsWhileConnectionsAreFlushed(t *testing.T) {
	const clients, pause = 20, 300 * time.Millisecond
	n := testnet.New(t)
	mustStart(t, n.Target, nil, "http", "[::]:8080")
	var all []*httpClient
	for range clients {
		c := newHTTPClient(t, n)
		c.mustGet(t, n.Target.Addr4, "original")
		all = append(all, c)
	}
	mustClaim(t, n.Target, func(l net.Listener) { http.Serve(l, named("local")) })
	found := mustFindQuick(t, n.Target)
	found.pace.every = 20 * time.Millisecond
	flushed := make(chan struct{})
	var asking sync.WaitGroup
	for i, c := range all {
		asking.Go(func() {
			for tick := time.NewTicker(pause + time.Duration(i)*time.Millisecond); ; <-tick.C {
				if _, err := c.get(n.Target.Addr4); err != nil {
					t.Error(err)
				}
				select {
				case <-flushed:
					return
				default:
				}
			}
		})
	}
	mustFlush(t, found, Outcome{Closed: clients})
	close(flushed)
	asking.Wait()
	for _, c := range all {
		c.mustGet(t, n.Target.Addr4, "local")
	}
}

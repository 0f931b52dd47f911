package session

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// both names, for each header, who has to answer.
var both = map[string]string{"X-User: me": "local", "X-User: you": "original"}

func TestUpgradedConnectionsEchoBothWays(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	startSession(t, n)
	for header, by := range both {
		t.Run(by, func(t *testing.T) {
			c, err := dial(n.Client, net.JoinHostPort(n.Target.Addr4.String(), "8080"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			in := bufio.NewReader(c)
			// A request of somebody else on the same connection first: it is not his for life.
			if a, err := ask(c, in, "/", "X-User: somebody"); err != nil || a.by != "original" {
				t.Fatalf("answered by %q, %v", a.by, err)
			}
			_ = c.SetDeadline(time.Now().Add(testrun.Patience))
			fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: shop\r\n%s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", header)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 101 || resp.Header.Get("X-Answered-By") != by {
				t.Fatalf("%s from %q", resp.Status, resp.Header.Get("X-Answered-By"))
			}
			for i := range 100 {
				// What looks like a request for the other is none any more.
				frame := fmt.Sprintf("\x81\x05frame %d\r\n\r\nGET / HTTP/1.1\r\nX-User: me\r\nX-User: you\r\n\r\n", i)
				if _, err := io.WriteString(c, frame); err != nil {
					t.Fatal(err)
				}
				back := make([]byte, len(frame))
				if _, err := io.ReadFull(in, back); err != nil || string(back) != frame {
					t.Fatalf("echo of %q came back as %q, %v", frame, back, err)
				}
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
				t.Errorf("after the end came %q, %v", rest, err)
			}
		})
	}
}

func TestLargeBodiesCostNoMemory(t *testing.T) {
	t.Parallel()
	const size = 300 << 20
	const most = 150 << 10 // KiB of magpie and of the agent, each
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	m := startSession(t, n)
	agent := agentOf(t, m)
	for header, by := range both {
		for _, way := range []struct {
			name, request string
			body          int64
		}{
			{"download", fmt.Sprintf("GET /?n=%d HTTP/1.1\r\nHost: a\r\n%s\r\nConnection: close\r\n\r\n", size, header), 0},
			{"upload", fmt.Sprintf("PUT / HTTP/1.1\r\nHost: a\r\n%s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", header, size), size},
		} {
			t.Run(by+", "+way.name, func(t *testing.T) {
				c, err := dial(n.Client, net.JoinHostPort(n.Target.Addr4.String(), "8080"))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(2 * testrun.Patience))
				if _, err := io.Copy(c, io.MultiReader(strings.NewReader(way.request), io.LimitReader(zeros{}, way.body))); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				if got := resp.Header.Get("X-Answered-By"); got != by {
					t.Errorf("answered by %q", got)
				}
				if way.body > 0 {
					said, err := io.ReadAll(resp.Body)
					if err != nil || !strings.Contains(string(said), fmt.Sprintf(" %d bytes", way.body)) {
						t.Errorf("said %q, %v", said, err)
					}
				} else if got, err := io.Copy(io.Discard, resp.Body); err != nil || got != size {
					t.Errorf("%d bytes came, %v", got, err)
				}
			})
		}
	}
	for name, pid := range map[string]int{"magpie": m.Cmd.Process.Pid, "agent": agent} {
		var peak int
		if _, err := fmt.Sscanf(idsOf(t, pid, "VmHWM"), "%d kB", &peak); err != nil || peak > most {
			t.Errorf("%s took %d KiB at its most, %v", name, peak, err)
		}
		t.Logf("%s: %d KiB", name, peak)
	}
}

// curl runs curl in the client's namespace and returns what it says, with -v.
func curl(tb testing.TB, n *testnet.Net, args ...string) string {
	tb.Helper()
	cmd := exec.Command("curl", append([]string{"-sSv", "--max-time", "10"}, args...)...)
	var out []byte
	n.Client.Do(tb, func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	return string(out)
}

func TestCurlIsServedAsWithoutUs(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	startSession(t, n)
	url := "http://" + net.JoinHostPort(n.Target.Addr4.String(), "8080") + "/"
	body := t.TempDir() + "/body"
	if err := os.WriteFile(body, make([]byte, 2<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for header, by := range both {
		for _, c := range []struct {
			name string
			args []string
			says []string
		}{
			{"100-continue", []string{"-H", "Expect: 100-continue", "-T", body, "--expect100-timeout", "9"}, []string{"100 Continue", "2097152 bytes", "HTTP/1.1 200 OK"}},
			{"chunked", []string{"-H", "Transfer-Encoding: chunked", "-T", body}, []string{"2097152 bytes"}},
			{"HTTP/1.0", []string{"--http1.0"}, []string{"HTTP/1.0 200 OK", " GET / "}},
			{"HTTP/1.0, keep-alive", []string{"--http1.0", "-H", "Connection: keep-alive"}, []string{"HTTP/1.0 200 OK", "Connection: keep-alive"}},
			{"HEAD", []string{"-I"}, []string{"200 OK"}},
			{"two at once", []string{url}, []string{"Re-using existing connection"}},
		} {
			t.Run(by+", "+c.name, func(t *testing.T) {
				said := curl(t, n, append(c.args, "-H", header, url)...)
				for _, want := range append(c.says, "X-Answered-By: "+by) {
					if !strings.Contains(said, want) {
						t.Errorf("no %q in:\n%s", want, said)
					}
				}
			})
		}
	}
}

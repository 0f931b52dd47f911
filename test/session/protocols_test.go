package session

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testcert"
	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// spoken names the protocols that clients here may speak.
var spoken = map[string]int{"HTTP/1.1": 1, "HTTP/2.0": 2}

// visitor is a client with one connection at most, in one protocol, whatever the server offers. It trusts every certificate.
func visitor(tb testing.TB, n *testnet.Net, protocol string) *http.Client {
	tb.Helper()
	way := &http.Transport{
		MaxConnsPerHost: 1,
		Protocols:       new(http.Protocols),
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "shop.dev"},
		DialContext:     func(_ context.Context, _, addr string) (net.Conn, error) { return dial(n.Client, addr) },
	}
	way.Protocols.SetHTTP1(spoken[protocol] == 1)
	way.Protocols.SetHTTP2(spoken[protocol] == 2)
	way.Protocols.SetUnencryptedHTTP2(spoken[protocol] == 2)
	tb.Cleanup(way.CloseIdleConnections)
	return &http.Client{Transport: way, Timeout: testrun.Patience}
}

// visit sends a request and returns the answer's head, with a header of the request if it is not empty.
func visit(client *http.Client, url, header, body string) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if name, value, ok := strings.Cut(header, ": "); ok {
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && !strings.Contains(string(text), fmt.Sprintf(" %d bytes", len(body))) {
		err = fmt.Errorf("%s: %q", resp.Status, text)
	}
	return resp, err
}

func TestHTTP2RequestsAreTakenOneByOne(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	startSession(t, n)
	client := visitor(t, n, "HTTP/2.0")
	url := "http://" + net.JoinHostPort(n.Target.Addr4.String(), "8080") + "/"
	var as string
	for range 20 {
		for header, by := range both {
			resp, err := visit(client, url, header, strings.Repeat("x", 100_000))
			if err != nil {
				t.Fatalf("%s: %v", header, err)
			}
			if got := resp.Header.Get("X-Answered-By"); got != by || resp.Header.Get("X-Spoken") != "HTTP/2.0" {
				t.Errorf("%s: answered by %q in %s", header, got, resp.Header.Get("X-Spoken"))
			}
			if as == "" {
				as = resp.Header.Get("X-Client")
			}
			if got := resp.Header.Get("X-Client"); got != as || !strings.HasPrefix(as, n.Client.Addr4.String()+":") {
				t.Errorf("%s: the client was seen as %s, and as %s", header, got, as)
			}
		}
	}
}

func TestTheCommandMaySpeakAnotherProtocolThanTheClient(t *testing.T) {
	for _, local := range []struct{ flag, server, spoken string }{{"h1", "h1", "HTTP/1.1"}, {"h2c", "h2c", "HTTP/2.0"}} {
		t.Run(local.flag, func(t *testing.T) {
			n := testnet.New(t)
			startOriginal(t, n, "http", ":8080")
			args := []string{"--target", "netns/" + n.Target.Name, "--steal", "--http-header-filter", "x-user: me", "--local-protocol", local.flag}
			startLocal(t, args, local.server, ":8080").WaitFor(t, "ready")
			url := "http://" + net.JoinHostPort(n.Target.Addr4.String(), "8080") + "/"
			for protocol := range spoken {
				client := visitor(t, n, protocol)
				for header, by := range both {
					want := local.spoken
					if by == "original" {
						want = protocol
					}
					resp, err := visit(client, url, header, "a body")
					if err != nil {
						t.Fatalf("%s, %s: %v", protocol, header, err)
					}
					if got := resp.Header.Get("X-Answered-By"); got != by || resp.Header.Get("X-Spoken") != want {
						t.Errorf("%s, %s: answered by %q in %s", protocol, header, got, resp.Header.Get("X-Spoken"))
					}
				}
			}
		})
	}
}

func TestABodyMayDecide(t *testing.T) {
	n := testnet.New(t)
	startOriginal(t, n, "http", ":8080")
	m := startLocal(t, []string{"--target", "netns/" + n.Target.Name, "--steal", "--http-body-filter", "$.user.id: me"}, "http", ":8080")
	m.WaitFor(t, "ready")
	url := "http://" + net.JoinHostPort(n.Target.Addr4.String(), "8080") + "/"
	for protocol := range spoken {
		client := visitor(t, n, protocol)
		for body, by := range map[string]string{
			`{"user": {"id": "me"}}`:      "local",
			`{"user": {"id": "melanie"}}`: "original",
			`{"user": "me"}`:              "original",
			``:                            "original",
			`{"user": {"id": "me"}, "more": "` + strings.Repeat("x", 100<<10) + `"}`: "original", // too much to look at
		} {
			resp, err := visit(client, url, "", body)
			if err != nil {
				t.Fatalf("%s, %.40s: %v", protocol, body, err)
			}
			if got := resp.Header.Get("X-Answered-By"); got != by {
				t.Errorf("%s, %.40s: answered by %q", protocol, body, got)
			}
		}
	}
}

// startSecure starts an original that ends TLS itself, and a session on it with settings, whose command is a small server.
func startSecure(tb testing.TB, n *testnet.Net, port, settings, what string, flags ...string) *testrun.Program {
	tb.Helper()
	chain, key := testcert.Write(tb, tb.TempDir(), "shop.dev")
	shown := []string{certificate + "=" + chain, privateKey + "=" + key}
	original := small(tb, "https", "original", ":"+port)
	original.Env = append(original.Env, shown...)
	startIn(tb, n, original, port)

	file := filepath.Join(tb.TempDir(), "magpie.yaml")
	if err := os.WriteFile(file, []byte(strings.NewReplacer("CHAIN", chain, "KEY", key).Replace(settings)), 0o644); err != nil {
		tb.Fatal(err)
	}
	local := small(tb, what, "local", ":"+port)
	args := []string{"exec", "--config", file, "--target", "netns/" + n.Target.Name, "--steal", "--http-header-filter", "x-user: me"}
	cmd := exec.Command(filepath.Join(programs, "magpie"), slices.Concat(args, flags, []string{"--"}, local.Args)...)
	cmd.Env = append(local.Env, shown...)
	return start(tb, cmd)
}

const namesCertificate = "tls: [{port: 8443, certificate: CHAIN, key: KEY}]"

func TestFiltersLookIntoTLSWhoseCertificateIsNamed(t *testing.T) {
	for _, local := range []struct{ flag, server string }{{"same", "https"}, {"tls", "https"}, {"h1", "h1"}, {"h2c", "h2c"}} {
		t.Run(local.flag, func(t *testing.T) {
			n := testnet.New(t)
			startSecure(t, n, "8443", namesCertificate, local.server, "--local-protocol", local.flag).WaitFor(t, "ready")
			url := "https://" + net.JoinHostPort(n.Target.Addr4.String(), "8443") + "/"
			for protocol := range spoken {
				client := visitor(t, n, protocol)
				for header, by := range both {
					resp, err := visit(client, url, header, "a body")
					if err != nil {
						t.Fatalf("%s, %s: %v", protocol, header, err)
					}
					got, name := resp.Header.Get("X-Answered-By"), resp.Header.Get("X-Server-Name")
					if got != by || resp.Proto != protocol || by == "original" && name != "shop.dev" {
						t.Errorf("%s, %s: answered by %q, asked for %q, in %s", protocol, header, got, name, resp.Proto)
					}
					if resp.TLS.PeerCertificates[0].Subject.CommonName != "shop.dev" {
						t.Errorf("the client saw the certificate of %v", resp.TLS.PeerCertificates[0].Subject)
					}
				}
			}
		})
	}
}

func TestFiltersSayThatTheyCannotLookIntoTLS(t *testing.T) {
	for port, says := range map[string]string{
		"8443": "port 8443 of netns/TARGET is TLS: a filter cannot look inside",     // at start: the number promises TLS
		"9000": "port 9000: connections there are TLS: a filter cannot look inside", // with the first client
	} {
		t.Run(port, func(t *testing.T) {
			n := testnet.New(t)
			m := startSecure(t, n, port, "{}", "https")
			m.WaitFor(t, "ready")
			for protocol := range spoken {
				resp, err := visit(visitor(t, n, protocol), "https://"+net.JoinHostPort(n.Target.Addr4.String(), port)+"/", "X-User: me", "a body")
				if err != nil || resp.Header.Get("X-Answered-By") != "original" {
					t.Errorf("%s: %v", protocol, err)
				}
			}
			m.WaitFor(t, strings.ReplaceAll(says, "TARGET", n.Target.Name))
		})
	}
}

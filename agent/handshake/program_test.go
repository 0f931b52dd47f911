package handshake

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nginxConf answers with what nginx sees of the TLS.
const nginxConf = `daemon off; master_process off; pid %[1]s/pid; error_log stderr; events {}
http { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
server { listen 127.0.0.1:%[2]d ssl http2; ssl_certificate %[1]s/tls.crt; ssl_certificate_key %[1]s/tls.key; ssl_protocols TLSv1.2 TLSv1.3; %[3]s
location / { return 200 "$ssl_server_name $ssl_protocol $ssl_alpn_protocol $server_protocol $ssl_client_s_dn\n"; } } }`

// mustNginx starts nginx with a certificate of ca, and more of its directives.
func mustNginx(tb testing.TB, ca *issuer, more string) (Pair, string) {
	tb.Helper()
	if _, err := exec.LookPath("nginx"); err != nil {
		tb.Fatal("install nginx-light (Debian's package)")
	}
	dir := tb.TempDir()
	l := mustListen(tb)
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	pair := rsaPair(tb, ca)
	for name, content := range map[string][]byte{
		"tls.crt": pair.Certificate.PEM, "tls.key": pair.Key.PEM, "ca.crt": ca.pem, "conf": fmt.Appendf(nil, nginxConf, dir, port, strings.ReplaceAll(more, "DIR", dir)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	cmd := exec.Command("nginx", "-e", "stderr", "-c", filepath.Join(dir, "conf"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	at := l.Addr().String()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) { // nginx does not say that it is ready
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
			return pair, at
		}
		if time.Since(begin) > enough {
			tb.Fatal("nginx does not listen")
		}
	}
}

func dialer(at string) Dialer {
	return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", at) }
}

// run returns what a program says.
func run(tb testing.TB, program string, args ...string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), enough)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v\n", out, err)
	}
	return string(out)
}

func port(at string) string {
	_, p, _ := net.SplitHostPort(at)
	return p
}

// TestProgramsSeeWhatTheySeeDirectly has curl and openssl call nginx, direct and through us.
func TestProgramsSeeWhatTheySeeDirectly(t *testing.T) {
	ca := mustIssuer(t, "ca")
	pair, nginx := mustNginx(t, ca, "")
	a := mustAgent(t, New(Config{Own: pair}), dialer(nginx))
	trust := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(trust, ca.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	curl := func(at string, args ...string) string {
		return run(t, "curl", append([]string{"-sS", "--cacert", trust, "--resolve", shop + ":" + port(at) + ":127.0.0.1", "https://" + shop + ":" + port(at) + "/"}, args...)...)
	}
	openssl := func(at string, args ...string) (said string) {
		all := run(t, "openssl", append([]string{"s_client", "-brief", "-CAfile", trust, "-connect", at}, args...)...)
		for line := range strings.Lines(all) {
			_, why, failed := strings.Cut(line, ":error:") // after a number of its process
			switch {
			case failed:
				said += why
			case strings.HasPrefix(line, "Supported Elliptic Curve Point Formats"), strings.HasPrefix(line, "Ciphersuite: TLS_"), line == "DONE\n":
			default:
				said += line
			}
		}
		return said
	}
	for name, c := range map[string]struct {
		run  func(at string, args ...string) string
		args []string
		want string
	}{
		"curl":                             {curl, nil, shop + " TLSv1.3 h2 HTTP/2.0"},
		"curl, HTTP/1.1":                   {curl, []string{"--http1.1"}, shop + " TLSv1.3 http/1.1 HTTP/1.1"},
		"curl, TLS 1.2":                    {curl, []string{"--tls-max", "1.2"}, shop + " TLSv1.2 h2 HTTP/2.0"},
		"curl without ALPN":                {curl, []string{"--no-alpn"}, shop + " TLSv1.3  HTTP/1.1"},
		"openssl":                          {openssl, nil, "Verification: OK"},
		"openssl with a name":              {openssl, []string{"-servername", shop}, "TLSv1.3"},
		"openssl, TLS 1.2 and a list":      {openssl, []string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"}, "ECDHE-RSA-AES128-SHA"},
		"openssl, without forward secrecy": {openssl, []string{"-tls1_2", "-cipher", "AES256-SHA256"}, "TLSv1.2"},
		"openssl, what we do not know":     {openssl, []string{"-tls1_2", "-cipher", "ECDHE-RSA-CAMELLIA128-SHA256"}, "CAMELLIA"},
		"openssl, curves of its own":       {openssl, []string{"-tls1_3", "-groups", "X448"}, "X448"},
		"openssl, refused":                 {openssl, []string{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, "rotocol version"},
	} {
		direct, through := c.run(nginx, c.args...), c.run(a.Addr().String(), c.args...)
		if direct != through || !strings.Contains(direct, c.want) {
			t.Errorf("%s: direct\n%s\nthrough us\n%s\nwant %q in both", name, direct, through, c.want)
		}
		if r := a.result(t); strings.HasPrefix(name, "curl") && r.Kind != Ended {
			t.Errorf("%s: kind %d, because %v", name, r.Kind, r.Why)
		}
	}
}

func TestNginxSeesTheCertificateThatItAsksFor(t *testing.T) {
	ca := mustIssuer(t, "ca")
	ours, _ := ca.mustIssue(t, "magpie")
	for _, verify := range []string{"on", "optional"} {
		pair, nginx := mustNginx(t, ca, "ssl_client_certificate DIR/ca.crt; ssl_session_tickets off; ssl_verify_client "+verify+";")
		a := mustAgent(t, New(Config{Own: pair, Original: ours}), dialer(nginx))
		for range 3 {
			if said := run(t, "curl", "-sSk", "https://"+a.Addr().String()); !strings.Contains(said, "HTTP/2.0 CN=magpie") {
				t.Errorf("verify %s: %s", verify, said)
			}
			if r := a.result(t); r.Kind != Ended {
				t.Errorf("verify %s: kind %d, because %v", verify, r.Kind, r.Why)
			}
		}
	}
}

// TestHellosThatWeCannotAnswerPassWhole has openssl ask for what crypto/tls does not know.
func TestHellosThatWeCannotAnswerPassWhole(t *testing.T) {
	pair, nginx := mustNginx(t, mustIssuer(t, "ca"), "ssl_early_data on;")
	a := mustAgent(t, New(Config{Own: pair}), dialer(nginx))
	dir := t.TempDir()
	session, early := filepath.Join(dir, "session"), filepath.Join(dir, "early")
	if err := os.WriteFile(early, []byte("GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A ticket of the original's, from before the session.
	if said := run(t, "sh", "-c", "(cat "+early+"; sleep 0.2) | openssl s_client -ign_eof -connect "+nginx+" -sess_out "+session); !strings.Contains(said, "HTTP/1.1 200") {
		t.Fatal(said)
	}
	for name, c := range map[string]struct {
		args []string
		why  string
	}{
		"early data":    {[]string{"-sess_in", session, "-early_data", early, "-ign_eof"}, "early data"},
		"small records": {[]string{"-tls1_2", "-maxfraglen", "1024"}, "small records"},
		"X448":          {[]string{"-tls1_3", "-groups", "X448"}, "curves"},
		"CAMELLIA":      {[]string{"-tls1_2", "-cipher", "ECDHE-RSA-CAMELLIA128-SHA256"}, "ciphers"},
		"fallback":      {[]string{"-fallback_scsv", "-no_tls1_3"}, "older version"},
	} {
		said := run(t, "openssl", append([]string{"s_client", "-connect", a.Addr().String()}, c.args...)...)
		if r := a.result(t); r.Kind != Raw || !strings.Contains(r.Why.Error(), c.why) {
			t.Errorf("%s: kind %d, because %v", name, r.Kind, r.Why)
		}
		if name == "early data" && (!strings.Contains(said, "Early data was accepted") || !strings.Contains(said, "HTTP/1.1 200")) {
			t.Errorf("%s:\n%s", name, said)
		}
	}
}

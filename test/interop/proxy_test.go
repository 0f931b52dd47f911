package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testrun"
)

// frontAt is where a proxy beside the client listens.
const frontAt = "127.0.0.1:9100"

// proxies share their few connections to the target among all who ask them, as those of a mesh do.
var proxies = map[string]func(tb testing.TB, target string) []string{
	"nghttpx": func(_ testing.TB, target string) []string {
		return []string{
			"nghttpx", "--conf=/dev/null", "--workers=1", "--log-level=FATAL", "--frontend=" + strings.Replace(frontAt, ":", ",", 1) + ";no-tls",
			"--backend=" + strings.Replace(target, ":", ",", 1) + ";;proto=h2",
		}
	},
	"HAProxy": func(tb testing.TB, target string) []string {
		conf := filepath.Join(tb.TempDir(), "haproxy.cfg")
		text := fmt.Sprintf(`global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
listen l
  bind %s
  server s %s proto h2
`, frontAt, target)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
		return []string{"haproxy", "-db", "-f", conf}
	},
}

func TestRequestsOfManyThatShareAProxyAreToldApart(t *testing.T) {
	t.Parallel()
	for name, proxy := range proxies {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.both(t, "http", "http")
			s.start(t, proxy(t, s.at(claimed))...)
			testrun.Eventually(t, func() error { return s.told(original, "") })
			var running sync.WaitGroup
			for i := range 16 {
				who, header := original, ""
				if i%2 == 0 {
					who, header = local, mine
				}
				running.Go(func() {
					for range 30 {
						if err := s.told(who, header); err != nil {
							t.Error(err)
						}
					}
				})
			}
			running.Wait()
		})
	}
}

// told returns an error unless a request through the proxy is answered by who is meant.
func (s *stage) told(who, header string) error {
	said, err := s.net.Client.Get("http://"+frontAt+"/shared", header)
	if err == nil && !strings.HasPrefix(said, who+" GET /shared HTTP/2.0") {
		err = fmt.Errorf("%q, not by the %s: %s", header, who, said)
	}
	return err
}

//go:build e2e

package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testrun"
)

// TestWithoutWebSocketsThereIsSPDY puts a proxy before the API server that knows no WebSockets, as old ones do.
func TestWithoutWebSocketsThereIsSPDY(t *testing.T) {
	s := openShop(t, 1)
	plain := testrun.Start(t, exec.Command(kubectlBin, "--kubeconfig", kubeconfig, "proxy", "--port=0", "--reject-paths=^/nothing$"), nil)
	_, address, _ := strings.Cut(plain.WaitFor(t, "Starting to serve on "), "serve on ")
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	var refused, spoken atomic.Int64
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch protocol := strings.ToLower(r.Header.Get("Upgrade")); {
		case protocol == "websocket":
			refused.Add(1)
			http.Error(w, "what is a WebSocket?", http.StatusBadRequest)
			return
		case protocol != "":
			spoken.Add(1)
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(old.CloseClientConnections)
	for _, mode := range []string{"", "--ephemeral"} {
		refused.Store(0)
		spoken.Store(0)
		args := []string{"exec", "--server", old.URL, "--target", "deploy/shop", "-n", s.namespace, "--steal", "--agent-image", agentImage,
			"--linger", "2s", "--http-header-filter", "x-user: me", "--", filepath.Join(programs, "shop"), "serve", "me", ":8080"}
		if mode != "" {
			args = append([]string{"exec", mode}, args[1:]...)
		}
		cmd := exec.Command(filepath.Join(programs, "magpie"), args...)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "KUBECONFIG=/dev/null"}
		m := testrun.Start(t, cmd, nil)
		m.WaitFor(t, "ready")
		if err := s.everywhere(t, "me", 1, "x-user: me"); err != nil {
			t.Errorf("%q: %v", mode, err)
		}
		m.Stop(t)
		if refused.Load() == 0 || spoken.Load() == 0 {
			t.Errorf("%q: %d WebSockets were refused, %d other upgrades passed", mode, refused.Load(), spoken.Load())
		}
		mustLeaveNothing(t, s.namespace, soon)
	}
}

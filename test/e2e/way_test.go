//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// proxy is one on the developer's machine that CONNECTs to where he cannot go himself.
type proxy struct {
	url  string
	used atomic.Int64
}

func newProxy(tb testing.TB, d *developer) *proxy {
	tb.Helper()
	var door net.Listener
	if err := d.host.NS.Do(func() (err error) {
		door, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { door.Close() })
	p := &proxy{url: "http://" + door.Addr().String()}
	go p.serve(door)
	return p
}

func (p *proxy) serve(door net.Listener) {
	for {
		conn, err := door.Accept()
		if err != nil {
			return
		}
		go p.relay(conn)
	}
}

func (p *proxy) relay(conn net.Conn) {
	head := bufio.NewReader(conn)
	request, err := http.ReadRequest(head)
	if err != nil || request.Method != http.MethodConnect {
		conn.Close()
		return
	}
	far, err := net.Dial("tcp", request.Host)
	if err != nil {
		fmt.Fprint(conn, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		conn.Close()
		return
	}
	p.used.Add(1)
	fmt.Fprint(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	go pour(conn, far)
	io.Copy(far, head)
	far.Close()
}

// TestTheWayMayBeAProxy has no other: the cable is cut.
func TestTheWayMayBeAProxy(t *testing.T) {
	for name, use := range map[string]func(*testing.T, *developer, string){
		"from the environment": func(_ *testing.T, d *developer, url string) { d.env = append(d.env, "HTTPS_PROXY="+url) },
		"from the kubeconfig": func(t *testing.T, d *developer, url string) {
			config := filepath.Join(d.folder, "kubeconfig")
			if out, err := exec.Command(kubectlBin, "--kubeconfig", config, "config", "set", "clusters."+clusterName(t)+".proxy-url", url).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, dev := openShop(t, 1), newDeveloper(t)
			dev.cut(t)
			way := newProxy(t, dev)
			use(t, dev, way.url)
			m := dev.steal(t, s, "me")
			if err := s.everywhere(t, "me", 1, "x-user: me"); err != nil {
				t.Error(err)
			}
			m.Stop(t)
			if way.used.Load() == 0 {
				t.Error("there is another way")
			}
			mustLeaveNothing(t, s.namespace, soon)
		})
	}
}

func clusterName(tb testing.TB) string {
	tb.Helper()
	return mustKubectl(tb, "config", "view", "--minify", "-o", "jsonpath={.clusters[0].name}")
}

func TestAProxyThatIsNotThereIsNamed(t *testing.T) {
	dev := newDeveloper(t)
	dev.env = append(dev.env, "HTTPS_PROXY=http://127.0.0.1:9")
	out, status := dev.run(t, "exec", "--target", "deploy/shop", "--", "true")
	if status != 125 || !strings.Contains(out, "through the proxy") || !strings.Contains(out, "hint: check HTTPS_PROXY") {
		t.Errorf("status %d:\n%s", status, out)
	}
}

// TestAPluginGivesTheCredentials of a whole session: carriers need them, too.
func TestAPluginGivesTheCredentials(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	withRoles(t, s.namespace, cluster.RoleDeveloper)
	token := strings.TrimSpace(mustKubectl(t, "-n", s.namespace, "create", "token", "account-"+cluster.RoleDeveloper))
	plugin := filepath.Join(dev.folder, "plugin")
	script := "#!/bin/sh\n" + `echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "%s"}}'`
	if err := os.WriteFile(plugin, fmt.Appendf(nil, script, token), 0o755); err != nil {
		t.Fatal(err)
	}
	dev.use(t, withUser(t, "--exec-command", plugin, "--exec-api-version", "client.authentication.k8s.io/v1", "--exec-interactive-mode", "Never"))
	m := dev.steal(t, s, "me")
	if err := s.everywhere(t, "me", 1, "x-user: me"); err != nil {
		t.Error(err)
	}
	m.Stop(t)
}

// magpieInPod has no kubeconfig: the pod's account is who it is, and the pod's namespace where it looks.
const magpieInPod = `
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  serviceAccountName: account-%s
  containers:
  - {name: magpie, image: %s, args: [%s], env: [{name: MAGPIE_AGENT_IMAGE, value: %s}]}
`

func TestInAPodNoKubeconfigIsNeeded(t *testing.T) {
	s := openShop(t, 1)
	withRoles(t, s.namespace, cluster.RoleDeveloper)
	image := "magpie.test/magpie:e2e"
	loadImage(t, image, filepath.Join(programs, "magpie"))
	for name, c := range map[string]struct{ args, want string }{
		"ls":   {"ls, -o, name", "deploy/shop"},
		"exec": {"exec, --target, deploy/shop, --, /magpie, version", "magpie devel"},
	} {
		apply(t, s.namespace, fmt.Sprintf(magpieInPod, name, cluster.RoleDeveloper, image, c.args, agentImage))
		within(t, 30*time.Second, func() error {
			phase, err := kubectl("-n", s.namespace, "get", "pod", name, "-o", "jsonpath={.status.phase}")
			if err == nil && phase != "Succeeded" && phase != "Failed" {
				err = fmt.Errorf("%s: %s", name, phase)
			}
			return err
		})
		if out := mustKubectl(t, "-n", s.namespace, "logs", name); !strings.Contains(out, c.want) {
			t.Errorf("%s in a pod:\n%s", name, out)
		}
	}
	mustLeaveNothing(t, s.namespace, soon)
}

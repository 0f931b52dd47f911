//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestNamesAreThoseOfTheCluster for a session in a pod, and for one in none.
func TestNamesAreThoseOfTheCluster(t *testing.T) {
	s, dev := openShop(t, 1), newDeveloper(t)
	outside := serveOutside(t)
	apply(t, s.namespace, `{apiVersion: v1, kind: Service, metadata: {name: headless}, spec: {clusterIP: None, selector: {app: shop}, ports: [{port: 8080}]}}`)
	apply(t, s.namespace, `{apiVersion: v1, kind: Service, metadata: {name: outside}, spec: {type: ExternalName, externalName: host.magpie.test}}`)
	for _, target := range []string{"deploy/shop", "none"} {
		for url, want := range map[string]string{
			"http://shop/": "original", "http://shop." + s.namespace + ".svc.cluster.local./": "original",
			"http://headless:8080/": "original", "http://headless." + s.namespace + ":8080/": "original",
			"http://outside:" + outside + "/": "outside",
			"http://nobody/":                  "Could not resolve host",
		} {
			out, status := dev.run(t, "exec", "--target", target, "-n", s.namespace, "--", "curl", "-sS", "-m", "10", url)
			if !strings.Contains(out, want) {
				t.Errorf("%s: curl %s: status %d:\n%s", target, url, status, out)
			}
		}
	}
	mustLeaveNothing(t, s.namespace, soon)
}

// serveOutside answers on the host, which is no part of the cluster, and returns the port.
func serveOutside(tb testing.TB) (port string) {
	tb.Helper()
	door, err := net.Listen("tcp", "198.19.255.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { door.Close() })
	go http.Serve(door, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "outside") }))
	_, port, _ = net.SplitHostPort(door.Addr().String())
	return port
}

const severalContainers = `
apiVersion: v1
kind: Pod
metadata: {name: %s, annotations: {%s}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: istio-proxy, image: ` + toolsImage + `, command: [sleep, "3600"], env: [{name: WHO, value: istio-proxy}]}
  - {name: web, image: ` + toolsImage + `, command: [sleep, "3600"], env: [{name: WHO, value: web}]}
  - {name: db, image: ` + toolsImage + `, command: [sleep, "3600"], env: [{name: WHO, value: db}]}
`

// TestTheEnvironmentIsThatOfTheContainerThatIsMeant is so for two sessions that share an agent, too.
func TestTheEnvironmentIsThatOfTheContainerThatIsMeant(t *testing.T) {
	namespace, dev := newNamespace(t), newDeveloper(t)
	apply(t, namespace, fmt.Sprintf(severalContainers, "plain", ""))
	apply(t, namespace, fmt.Sprintf(severalContainers, "marked", "kubectl.kubernetes.io/default-container: db"))
	mustKubectl(t, "-n", namespace, "wait", "--for=condition=Ready", "pod/plain", "pod/marked", "--timeout=60s")
	dev.magpie(t, "exec", "-n", namespace, "-p", "plain", "--", "sleep", "600").WaitFor(t, "environment")
	for flags, want := range map[string]string{
		"-p plain": "web", "-p marked": "db", "-p plain -c db": "db", "-p plain -c istio-proxy": "istio-proxy", "--target pod/marked/container/web": "web",
	} {
		args := append([]string{"exec", "-n", namespace}, strings.Fields(flags)...)
		out, status := dev.run(t, append(args, "--", "sh", "-c", `echo "I am $WHO."`)...)
		if !strings.Contains(out, "I am "+want+".") {
			t.Errorf("%s: status %d, want %s:\n%s", flags, status, want, out)
		}
	}
}

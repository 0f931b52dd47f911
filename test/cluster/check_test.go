//go:build e2e

package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// web is two pods on two nodes that answer with their names, under one Service.
const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [
        {weight: 100, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}}]}}
      containers:
      - name: web
        image: magpie.test/tools:1
        command: [sh, -c, "mkdir /web && hostname >/web/index.html && exec httpd -f -p 8080 -h /web"]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: host.magpie.test}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 0
  containers: [{name: client, image: "magpie.test/tools:1", command: [sleep, "1000000"]}]
`

func mustHaveWeb(tb testing.TB) shop {
	tb.Helper()
	s := mustHaveShop(tb)
	s.apply(web)
	s.must("rollout", "status", "deployment/web", "--timeout=1m")
	s.must("wait", "--for=condition=Ready", "pod/client", "--timeout=1m")
	return s
}

func TestPodsReachEachOtherAcrossNodes(t *testing.T) {
	s := mustHaveWeb(t)
	if on := s.field(".items[*].spec.nodeName", "pods", "--selector=app=web"); !strings.Contains(on, "node1") || !strings.Contains(on, "node2") {
		t.Errorf("the two pods are on %s, want one on each node", on)
	}
	for address := range strings.FieldsSeq(s.field(".items[*].status.podIP", "pods", "--selector=app=web")) {
		s.eventuallyPrints("web-", "exec", "client", "--", "get", "http://"+address+":8080/")
		if conn, err := net.DialTimeout("tcp", address+":8080", time.Second); err == nil {
			conn.Close()
			t.Errorf("the host reaches pod %s; it should be outside of the cluster", address)
		}
	}
}

func TestNamesWork(t *testing.T) {
	s := mustHaveWeb(t)
	address := s.field(".spec.clusterIP", "service/web")
	for _, name := range []string{"web", "web." + s.namespace, "web." + s.namespace + ".svc.cluster.local"} {
		s.eventuallyPrints(address, "exec", "client", "--", "lookup", name)
		s.eventuallyPrints("web-", "exec", "client", "--", "get", "http://"+name+"/")
	}
	s.eventuallyPrints("198.19.128.", "exec", "client", "--", "lookup", "headless")
	s.eventuallyPrints("198.19.129.", "exec", "client", "--", "lookup", "headless")
	s.eventuallyPrints(hostAddress, "exec", "client", "--", "lookup", "outside")
	s.eventuallyPrints(developerAddress, "exec", "client", "--", "lookup", "developer.magpie.test")
	s.refuses("no such host", "exec", "client", "--", "lookup", "example.com")
}

func TestExecWorksOverWebSocketAndSPDY(t *testing.T) {
	s := mustHaveWeb(t)
	for _, websockets := range []string{"true", "false"} {
		cmd := s.command("exec", "-i", "client", "--", "cat")
		cmd.Env = append(cmd.Env, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS="+websockets)
		cmd.Stdin = strings.NewReader("hello")
		if output, err := cmd.CombinedOutput(); err != nil || string(output) != "hello" {
			t.Errorf("exec with WebSocket=%s: %v: %q", websockets, err, output)
		}
	}
}

func TestPortForwardWorksOverWebSocketAndSPDY(t *testing.T) {
	s := mustHaveWeb(t)
	for _, websockets := range []string{"true", "false"} {
		port := mustHaveFreePort(t)
		cmd := s.command("port-forward", "deployment/web", port+":8080")
		cmd.Env = append(cmd.Env, "KUBECTL_PORT_FORWARD_WEBSOCKETS="+websockets)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s.eventually(func() error {
			answer, err := http.Get("http://127.0.0.1:" + port + "/")
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				return fmt.Errorf("port-forward with WebSocket=%s: %s", websockets, answer.Status)
			}
			return nil
		})
		cmd.Process.Kill()
		cmd.Wait()
	}
}

func mustHaveFreePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestEphemeralContainerSeesItsTarget(t *testing.T) {
	s := mustHaveWeb(t)
	s.must("debug", "client", "--image="+toolsImage, "--target=client", "--container=debugger", "--profile=general", "--", "sh", "-c", "ps; sleep 60")
	s.eventuallyPrints("sleep 1000000", "logs", "client", "--container=debugger")
}

func TestJobGoesAfterItsTimeToLive(t *testing.T) {
	s := mustHaveShop(t)
	s.apply(`
apiVersion: batch/v1
kind: Job
metadata: {name: short}
spec:
  ttlSecondsAfterFinished: 1
  template: {spec: {restartPolicy: Never, containers: [{name: short, image: "magpie.test/tools:1", command: ["true"]}]}}
`)
	s.must("wait", "--for=delete", "job/short", "--timeout=1m")
}

func TestDrainMovesPodsToTheOtherNode(t *testing.T) {
	s := mustHaveWeb(t)
	t.Cleanup(func() { s.must("uncordon", "node2") })
	s.must("drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=1m")
	s.must("rollout", "status", "deployment/web", "--timeout=1m")
	s.eventually(func() error {
		if on := s.field(".items[*].spec.nodeName", "pods", "--selector=app=web"); on != "node1 node1" {
			return fmt.Errorf("the pods are on %s, want both on node1", on)
		}
		return nil
	})
}

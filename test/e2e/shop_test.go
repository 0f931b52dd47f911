//go:build e2e

package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// answer is what a shop says of a request.
type answer struct{ By, Host, Client, Path, Proto string }

// shop is a Deployment with a Service, both called shop, and a bystander pod that has nothing to do with us.
type shop struct{ namespace string }

const shopManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, labels: {app: shop}}
spec:
  replicas: %d
  selector: {matchLabels: {app: shop}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      terminationGracePeriodSeconds: 20
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: shop}}}
      containers:
      - name: shop
        image: ` + shopImage + `
        args: [serve, original, ":8080"]
        ports: [{containerPort: 8080}]
        env:
        - {name: GREETING, value: hello}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: shop, key: password}}}
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
        livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 2, failureThreshold: 2}
---
apiVersion: v1
kind: Secret
metadata: {name: shop}
stringData: {password: correct horse}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bystander, labels: {app: bystander}}
spec:
  terminationGracePeriodSeconds: 0
  nodeSelector: {kubernetes.io/hostname: node1}
  containers:
  - {name: bystander, image: ` + shopImage + `, args: [bystander, "http://shop/", ":8081"]}
`

// openShop opens one with so many replicas in a namespace of its own, and waits until it serves the bystander.
func openShop(tb testing.TB, replicas int) *shop {
	tb.Helper()
	s := &shop{newNamespace(tb)}
	apply(tb, s.namespace, fmt.Sprintf(shopManifest, replicas))
	rollout(tb, s.namespace, "deploy/shop")
	mustKubectl(tb, "-n", s.namespace, "wait", "--for=condition=Ready", "pod/bystander", "--timeout=60s")
	// A new Service is known to its node some time after its pods are ready.
	for range 5 {
		within(tb, 30*time.Second, func() error {
			_, err := s.ask("http://shop/")
			return err
		})
	}
	if _, err := raw(s.namespace, "bystander", "8081", "/reset", nil); err != nil {
		tb.Fatal(err)
	}
	return s
}

// pods are the names of the ready replicas.
func (s *shop) pods(tb testing.TB) []string { return s.ready(tb, "{.targetRef.name}") }

// ips are their addresses.
func (s *shop) ips(tb testing.TB) []string { return s.ready(tb, "{.addresses[0]}") }

func (s *shop) ready(tb testing.TB, field string) []string {
	tb.Helper()
	return strings.Fields(mustKubectl(tb, "-n", s.namespace, "get", "endpointslices", "-l", "kubernetes.io/service-name=shop",
		"-o", "jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}"+field+" {end}"))
}

// ask has the bystander send one request, from inside the cluster, over a connection of its own.
func (s *shop) ask(to string, headers ...string) (answer, error) {
	text, err := raw(s.namespace, "bystander", "8081", "/ask", url.Values{"url": {to}, "header": headers})
	if err != nil {
		return answer{}, err
	}
	return decodeAnswer(text)
}

// askHTTP2 is ask in HTTP/2, with prior knowledge where there is no TLS.
func (s *shop) askHTTP2(to string, headers ...string) (answer, error) {
	text, err := raw(s.namespace, "bystander", "8081", "/ask", url.Values{"url": {to}, "header": headers, "http2": {"yes"}})
	if err != nil {
		return answer{}, err
	}
	return decodeAnswer(text)
}

// everywhere asks each ready replica by its own address, and returns an error unless all answers are by whom they should.
func (s *shop) everywhere(tb testing.TB, by string, replicas int, headers ...string) error {
	ips := s.ips(tb)
	if len(ips) != replicas {
		return fmt.Errorf("%d ready replicas, not %d", len(ips), replicas)
	}
	for _, ip := range ips {
		a, err := s.ask("http://"+ip+":8080/", headers...)
		if err != nil {
			return err
		}
		if a.By != by {
			return fmt.Errorf("%s is answered by %q, not by %q", ip, a.By, by)
		}
	}
	return nil
}

// stats is how the bystander fared.
type stats struct {
	OK, Failed int
	By         map[string]int
	Slowest    time.Duration
	Errors     []string
}

func (s *shop) stats(tb testing.TB) (now stats) {
	tb.Helper()
	text, err := raw(s.namespace, "bystander", "8081", "/stats", nil)
	if err != nil {
		tb.Fatal(err)
	}
	mustDecode(tb, text, &now)
	return now
}

// mustBeUnharmed fails when the bystander has seen more errors than allowed since the shop was open, or an answer of another
// than the original, or has sent nothing.
func (s *shop) mustBeUnharmed(tb testing.TB, allowed int) {
	tb.Helper()
	now := s.stats(tb)
	tb.Logf("the bystander: %d answers, %d errors, slowest %v", now.OK, now.Failed, now.Slowest)
	if now.OK == 0 || now.Failed > allowed {
		tb.Errorf("%d errors in %d requests, %d are allowed:\n%s", now.Failed, now.OK+now.Failed, allowed, strings.Join(now.Errors, "\n"))
	}
	if len(now.By) != 1 || now.By["original"] != now.OK {
		tb.Errorf("answered by %v", now.By)
	}
}

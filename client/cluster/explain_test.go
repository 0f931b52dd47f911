package cluster

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestARefusalIsOneLineOfCauseAndOneOfHint(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for _, c := range []struct {
		err        error
		want, hint string
	}{
		{apierrors.NewUnauthorized("Unauthorized"), "start agent: the API server does not accept these credentials", "log in anew"},
		{apierrors.NewForbidden(pods, "", errors.New(`User "bob" cannot list resource "pods" in API group "" in the namespace "dev"`)),
			"start agent: bob may not list pods in namespace dev", "`kubectl auth can-i list pods -n dev`"},
		{apierrors.NewForbidden(pods, "ems", errors.New(`User "system:serviceaccount:dev:bob" cannot create resource "pods/portforward" in API group "" in the namespace "dev"`)),
			"system:serviceaccount:dev:bob may not create pods/portforward in namespace dev", "can-i create pods/portforward -n dev"},
		{apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, "", errors.New(`User "bob" cannot list resource "deployments" in API group "apps" at the cluster scope`)),
			"bob may not list deployments.apps in the whole cluster", "can-i list deployments.apps -A"},
		{apierrors.NewForbidden(pods, "x", errors.New(`violates PodSecurity "restricted:latest": host namespaces (hostPID=true)`)),
			`violates PodSecurity "restricted:latest"`, "Pod Security level"},
		{apierrors.NewForbidden(pods, "x", errors.New("exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3")), "exceeded quota: small", "kubectl describe quota"},
		{apierrors.NewForbidden(pods, "x", errors.New("image policy says no")), "image policy says no", "admission"},
		{apierrors.NewTooManyRequests("slow down", 1), "cannot answer now", "try again"},
		{apierrors.NewBadRequest("the server rejected our request for an unknown reason"), "rejected our request", "https://"},
		{errors.New("something new"), "something new", "`kubectl get pods`"},
		{context.DeadlineExceeded, "the API server does not answer", "--request-timeout"},
		{errors.New(`Get "https://x": getting credentials: exec: executable aws not found`), "get credentials: exec: executable aws not found", "for a token"},
	} {
		err := Explain("start agent", c.err)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Cause, c.want) || !strings.Contains(e.Hint(), c.hint) || strings.Contains(e.Cause, "\n") {
			t.Errorf("%v: %v (hint %q); want %q and %q", c.err, err, e.Hint(), c.want, c.hint)
		}
		if !errors.Is(err, c.err) {
			t.Errorf("%v: the cause is lost", c.err)
		}
	}
}

func TestAnExplanationStaysAsItIs(t *testing.T) {
	if err := Explain("x", nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	first := Explain("list pods", apierrors.NewUnauthorized("Unauthorized"))
	if again := Explain("watch pods", first); again != first {
		t.Errorf("%v became %v", first, again)
	}
	if err := Explain("list pods", context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("%v is no cancellation", err)
	}
}

// silent accepts connections and says nothing.
func silent(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	return l
}

func TestAnAPIServerThatIsNotThereIsToldInSeconds(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	closed := silent(t)
	closed.Close()
	for _, c := range []struct {
		what       string
		args       []string
		want, hint string
		is         error
	}{
		{"closed port", []string{"--server", "https://" + closed.Addr().String()}, "refuses connections", "is the cluster up", syscall.ECONNREFUSED},
		{"no such name", []string{"--server", "https://api.magpie.invalid:6443"}, "no address is known for api.magpie.invalid", "is the cluster up", nil},
		{"silence", []string{"--server", "https://" + silent(t).Addr().String(), "--request-timeout", "1s"}, "does not answer", "--request-timeout", nil},
		{"proxy gone", []string{"--server", "https://198.18.0.1:6443", "--proxy-url", "http://" + closed.Addr().String()}, "not reached through the proxy", "HTTPS_PROXY", syscall.ECONNREFUSED},
		{"no TLS", []string{"--server", "https://" + plain.Listener.Addr().String()}, "does not speak TLS", "is the address right", nil},
		{"unknown authority", []string{"--server", secure.URL}, "an authority that the kubeconfig does not know", "--certificate-authority", nil},
	} {
		cluster, err := Connect(mustFlags(t, kubeconfig, c.args...))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = cluster.Pods(t.Context(), Target{Kind: KindDeployment, Name: "ems"})
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Cause, c.want) || !strings.Contains(e.Hint(), c.hint) {
			t.Errorf("%s: %v; want %q and %q", c.what, err, c.want, c.hint)
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v is not %v", c.what, err, c.is)
		}
		if took := time.Since(began); took > 7*time.Second {
			t.Errorf("%s: took %v", c.what, took)
		}
	}
}

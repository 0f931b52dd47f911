package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// apiServer has the Secret ems-tls, shows it unless it is to be kept, and lists names unless nobody may.
func apiServer(tb testing.TB, keep, unlisted bool) *Cluster {
	tb.Helper()
	const forbidden = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":` +
		`"secrets \"ems-tls\" is forbidden: User \"alice\" cannot %s resource \"secrets\" in API group \"\" in the namespace \"dev\""}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/api/v1/namespaces/dev/secrets/ems-tls" && keep:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, forbidden, "get")
		case r.URL.Path == "/api/v1/namespaces/dev/secrets/ems-tls":
			fmt.Fprint(w, `{"kind":"Secret","apiVersion":"v1","data":{"tls.crt":"aGVsbG8="}}`)
		case r.URL.Path == "/api/v1/namespaces/dev/secrets" && unlisted:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, forbidden, "list")
		case r.URL.Path == "/api/v1/namespaces/dev/secrets":
			if !strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadataList") {
				tb.Error("contents of secrets are asked for")
			}
			fmt.Fprint(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[{"metadata":{"name":"ems-tls"}},{"metadata":{"name":"other"}}]}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"secrets not found"}`)
		}
	}))
	tb.Cleanup(server.Close)
	c, err := Connect(mustFlags(tb, kubeconfig, "--server", server.URL, "--namespace", "dev"))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestASecretIsReadOrItIsSaidWhyNot(t *testing.T) {
	if got, err := apiServer(t, false, false).Secret(t.Context(), "", "ems-tls"); err != nil || string(got["tls.crt"]) != "hello" {
		t.Errorf("%v, %v", got, err)
	}
	for _, c := range []struct {
		name           string
		keep, unlisted bool
		cause, hint    string
	}{
		{"ems-tls", true, false, "read secret ems-tls: alice may not get secrets in namespace dev", "`kubectl -n dev create role read-ems-tls --verb get --resource secrets --resource-name ems-tls`"},
		{"ems-tsl", false, false, "secret/ems-tsl does not exist in namespace dev", "did you mean ems-tls?"},
		{"zzz", false, false, "secret/zzz does not exist", "there are: ems-tls, other"},
		{"ems-tsl", false, true, "secret/ems-tsl does not exist", "kubectl get secrets"},
	} {
		_, err := apiServer(t, c.keep, c.unlisted).Secret(t.Context(), "", c.name)
		var hinted interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), c.cause) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), c.hint) {
			t.Errorf("%s: %v; want %q and %q", c.name, err, c.cause, c.hint)
		}
	}
}

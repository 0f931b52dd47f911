package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Explain turns an error of the API server, or of the way to it, into one line of cause and one of hint. An error that has a hint already stays
// as it is, and nil stays nil.
func Explain(doing string, err error) error {
	var hinted interface{ Hint() string }
	switch {
	case err == nil || errors.As(err, &hinted):
		return err
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", doing, err)
	}
	cause, hint := refusal(err)
	if cause == "" {
		cause, hint = noAnswer(err)
	}
	return &Error{Cause: doing + ": " + cause, Advice: hint, Err: err}
}

// withoutRight is how RBAC, and every authorizer after it, words a refusal.
var withoutRight = regexp.MustCompile(`^(?:.*is forbidden: )?User "([^"]*)" cannot (\S+) resource "([^"]+)" in API group "([^"]*)"(?: in the namespace "([^"]+)")?`)

// refusal is for answers of the API server; the cause is "" for anything else.
func refusal(err error) (cause, hint string) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return "", ""
	}
	text := line(or(status.Status().Message, err.Error()))
	switch {
	case apierrors.IsUnauthorized(err):
		return "the API server does not accept these credentials", "they may have expired: log in anew; `kubectl auth whoami` shows who you are"
	case apierrors.IsForbidden(err):
		return forbidden(text)
	case unknownKindOfAPI(status):
		return "the cluster does not know this kind of object", "`kubectl api-resources` lists what it knows"
	case apierrors.IsTooManyRequests(err), apierrors.IsServiceUnavailable(err), apierrors.IsServerTimeout(err), apierrors.IsTimeout(err):
		return "the API server cannot answer now: " + text, "try again; `kubectl get --raw /readyz?verbose` tells how it is"
	case apierrors.IsNotFound(err):
		return text, "`kubectl config view --minify` shows which cluster and namespace are meant"
	case apierrors.IsBadRequest(err):
		return text, "is the address right, with https:// in front? `kubectl config view --minify` shows it"
	case apierrors.IsInternalError(err):
		return text, "a webhook or the API server itself fails; does kubectl do better?"
	}
	return text, ""
}

func forbidden(text string) (cause, hint string) {
	if m := withoutRight.FindStringSubmatch(text); m != nil {
		user, verb, resource, group, namespace := m[1], m[2], m[3], m[4], m[5]
		full := resource
		if group != "" {
			name, sub, _ := strings.Cut(resource, "/")
			full = strings.TrimSuffix(name+"."+group+"/"+sub, "/")
		}
		where, flag := "in the whole cluster", "-A"
		if namespace != "" {
			where, flag = "in namespace "+namespace, "-n "+namespace
		}
		return fmt.Sprintf("%s may not %s %s %s", user, verb, full, where),
			fmt.Sprintf("deploy/rbac.yaml is what Magpie needs; `kubectl auth can-i %s %s %s` asks again", verb, full, flag)
	}
	switch {
	case strings.Contains(text, "violates PodSecurity"):
		return text, "the namespace's Pod Security level forbids it: put agents into a namespace that allows them (agent.namespace), or ask for its label"
	case strings.Contains(text, "exceeded quota"), strings.Contains(text, "failed quota"):
		return text, "the namespace's quota is used up: `kubectl describe quota` shows by what"
	}
	return text, "an admission rule of the cluster forbids it"
}

// unknownKindOfAPI reports whether the path itself is unknown, not the object: the definition of a custom kind is missing.
func unknownKindOfAPI(s apierrors.APIStatus) bool {
	return s.Status().Code == 404 && strings.Contains(s.Status().Message, "could not find the requested resource")
}

// noAnswer is for what happens before the API server says anything.
func noAnswer(err error) (cause, hint string) {
	server := "the API server"
	if u := new(url.Error); errors.As(err, &u) {
		if at, parseErr := url.Parse(u.URL); parseErr == nil && at.Host != "" {
			server += " " + at.Scheme + "://" + at.Host
		}
	}
	if cause, hint := badCertificate(server, err); cause != "" {
		return cause, hint
	}
	var names *net.DNSError
	var op *net.OpError
	const reach = "is the cluster up, and the VPN? `kubectl config view --minify` shows the address"
	switch text := line(bare(err)); {
	case strings.Contains(text, "getting credentials:"):
		_, text, _ = strings.Cut(text, "getting credentials:")
		return "get credentials:" + text, "the kubeconfig's user runs this program for a token; does `kubectl get pods` work?"
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return fmt.Sprintf("%s is not reached through the proxy: %s", server, text), "check HTTPS_PROXY, NO_PROXY and the kubeconfig's proxy-url"
	case errors.As(err, &names):
		return fmt.Sprintf("no address is known for %s", or(names.Name, server)), reach
	case errors.Is(err, syscall.ECONNREFUSED):
		return server + " refuses connections", reach
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no way to " + server, reach
	case errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		return server + " does not answer", reach + "; --request-timeout gives it longer"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return server + " closed the connection", "try again; does `kubectl get pods` work?"
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return server + " does not speak TLS", "is the address right? `kubectl config view --minify` shows it"
	default:
		return text, "does `kubectl get pods` do better?"
	}
}

func badCertificate(server string, err error) (cause, hint string) {
	var unknown x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	switch {
	case errors.As(err, &unknown):
		return server + " shows a certificate of an authority that the kubeconfig does not know", "is it the right cluster? --certificate-authority names another authority"
	case errors.As(err, &wrongName):
		return fmt.Sprintf("%s shows a certificate for other names: %s", server, line(wrongName.Error())), "--tls-server-name says by which name it is known"
	case errors.As(err, &invalid):
		return fmt.Sprintf("%s shows a bad certificate: %s", server, line(invalid.Error())), "is this machine's clock right?"
	case errors.As(err, &alert):
		return fmt.Sprintf("%s does not accept the client certificate: %s", server, line(alert.Error())), "it may have expired: log in anew"
	}
	return "", ""
}

// bare is the error's text without the method and URL in front.
func bare(err error) string {
	if u := new(url.Error); errors.As(err, &u) {
		return u.Err.Error()
	}
	return err.Error()
}

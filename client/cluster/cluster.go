// Package cluster finds what a developer means in a Kubernetes cluster: the pods behind a target, now and as they come and go, and says in one
// line of cause and one of hint why they cannot be had. It never changes anything but the events that it records.
package cluster

import (
	"context"
	"net"
	"net/http"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // as kubectl: OIDC, and words for the providers that are gone
	"k8s.io/client-go/rest"
)

const (
	// dialTimeout is for an API server that does not answer at all; client-go would wait half a minute.
	dialTimeout = 5 * time.Second
	// patience is for one answer of an API server that took the connection.
	patience = 10 * time.Second
	// burst and rate keep a bug of ours from flooding an API server. client-go's own 10 and 5 would slow a session's start.
	burst, rate = 200, 50
)

// keepAlive finds a watch whose path is gone in 15 s: a watch sends nothing, so nothing else would tell before HTTP/2's ping, after 45 s.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 2}

// A Cluster is an API server as the developer's kubeconfig names it. It is safe for concurrent use and needs no closing.
type Cluster struct {
	config    *rest.Config
	typed     kubernetes.Interface
	dynamic   dynamic.Interface  // for kinds by their names
	metadata  metadata.Interface // for names and owners: pod templates are long
	namespace string
	context   string
}

// Connect reads the kubeconfig, or what a pod finds in its own file system. It sends no request yet.
func Connect(f *Flags) (*Cluster, error) {
	config, err := f.restConfig()
	if err != nil {
		return nil, err
	}
	loader := f.kubectl.ToRawKubeConfigLoader()
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, Explain("read kubeconfig", err)
	}
	c := &Cluster{config: config, namespace: namespace, context: f.context()}
	return c, c.open()
}

func (c *Cluster) open() error {
	c.config.QPS, c.config.Burst = rate, burst
	c.config.WarningHandler = rest.NoWarnings{} // what would matter to a developer is in the refusal that follows
	if c.config.Dial == nil {
		c.config.Dial = (&net.Dialer{Timeout: c.dialPatience(), KeepAliveConfig: keepAlive, Control: impatient}).DialContext
	}
	binary := rest.CopyConfig(c.config)
	binary.ContentType = "application/vnd.kubernetes.protobuf"
	binary.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	shared, err := rest.HTTPClientFor(binary)
	if err != nil {
		return Explain("read kubeconfig", err)
	}
	return c.openWith(binary, shared)
}

// openWith makes all clients over one set of connections.
func (c *Cluster) openWith(binary *rest.Config, shared *http.Client) (err error) {
	if c.typed, err = kubernetes.NewForConfigAndClient(binary, shared); err != nil {
		return Explain("read kubeconfig", err)
	}
	if c.metadata, err = metadata.NewForConfigAndClient(c.config, shared); err != nil {
		return Explain("read kubeconfig", err)
	}
	if c.dynamic, err = dynamic.NewForConfigAndClient(c.config, shared); err != nil {
		return Explain("read kubeconfig", err)
	}
	return nil
}

// dialPatience is --request-timeout where that is given.
func (c *Cluster) dialPatience() time.Duration {
	if c.config.Timeout > 0 {
		return c.config.Timeout
	}
	return dialTimeout
}

// Namespace is the one that was asked for, else the context's, else "default".
func (c *Cluster) Namespace() string { return c.namespace }

// Context is the name of the kubeconfig's context; "" in a pod.
func (c *Cluster) Context() string { return c.context }

// Config is a copy, for what needs connections of its own.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Client speaks the API's own types.
func (c *Cluster) Client() kubernetes.Interface { return c.typed }

// bounded is ctx with the time that one answer may take.
func (c *Cluster) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.config.Timeout > 0 {
		return context.WithTimeout(ctx, c.config.Timeout)
	}
	return context.WithTimeout(ctx, patience)
}

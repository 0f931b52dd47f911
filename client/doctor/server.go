package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/magpie-k8s/magpie/client/cluster"
)

// server asks whether there is a cluster at all.
func (v *visit) server(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	version, err := v.version(ctx)
	if err != nil {
		v.fail("cluster", cluster.Explain("reach the cluster", err))
		return false
	}
	v.ok("cluster", fmt.Sprintf("%s at %s, namespace %s", version, v.Cluster.Config().Host, v.Cluster.Namespace()))
	return true
}

// version is the cheapest question there is: every user may ask it, and etcd is not involved.
func (v *visit) version(ctx context.Context) (string, error) {
	raw, err := v.Cluster.Client().Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return "", err
	}
	var said struct{ GitVersion string }
	if err := json.Unmarshal(raw, &said); err != nil || said.GitVersion == "" {
		return "", fmt.Errorf("the answer is not that of a Kubernetes API server: %w", errors.Join(err, fs.ErrInvalid))
	}
	return "Kubernetes " + said.GitVersion, nil
}

// latency measures the way to the API server, which every byte of a session takes.
func (v *visit) latency(ctx context.Context) {
	times, err := measure(ctx, func(ctx context.Context) error {
		_, err := v.version(ctx)
		return err
	})
	if err != nil {
		v.fail("latency", cluster.Explain("measure the way to the API server", err))
		return
	}
	v.ok("latency", times.String()+" to the API server")
}

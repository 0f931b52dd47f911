package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// adminKubeconfig is the administrator's way in, while the cluster runs; callers get a copy in their clone.
const adminKubeconfig = stateDir + "/kubeconfig"

func kubectl(p places, args ...string) (string, error) {
	cmd := exec.Command(p.kubectl(), append([]string{"--kubeconfig", adminKubeconfig, "--request-timeout=5s"}, args...)...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return string(output), nil
}

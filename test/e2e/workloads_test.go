//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// toolsImage comes with the cluster.
const toolsImage = "magpie.test/tools:1"

// workloads has one of each kind. The two Deployments have the same labels: only their owners tell their pods apart.
const workloads = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: ems}
spec:
  replicas: 2
  selector: {matchLabels: {app: ems}}
  template:
    metadata: {labels: {app: ems}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: istio-proxy, image: ` + toolsImage + `, command: [sleep, "3600"]}
      - {name: web, image: ` + toolsImage + `, command: [sleep, "3600"], ports: [{name: http, containerPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: twin}
spec:
  replicas: 1
  selector: {matchLabels: {app: ems}}
  template:
    metadata: {labels: {app: ems}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: twin, image: ` + toolsImage + `, command: [sleep, "3600"]}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: db, image: ` + toolsImage + `, command: [sleep, "3600"]}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: log}
spec:
  selector: {matchLabels: {app: log}}
  template:
    metadata: {labels: {app: log}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: log, image: ` + toolsImage + `, command: [sleep, "3600"]}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec: {restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{name: once, image: ` + toolsImage + `, command: [sleep, "3600"]}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  suspend: true
  jobTemplate:
    spec:
      template:
        spec: {restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{name: nightly, image: ` + toolsImage + `, command: [sleep, "3600"]}]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: ems}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: example.com}
`

// openWorkloads makes one of each, and waits until the API server shows all as ready.
func openWorkloads(tb testing.TB) (namespace string) {
	tb.Helper()
	namespace = newNamespace(tb)
	apply(tb, namespace, workloads)
	mustKubectl(tb, "-n", namespace, "create", "job", "manual", "--from=cronjob/nightly")
	for _, w := range []string{"deploy/ems", "deploy/twin", "sts/db", "ds/log"} {
		rollout(tb, namespace, w)
	}
	for _, job := range []string{"once", "manual"} {
		within(tb, time.Minute, func() error {
			_, err := kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod", "-l", "job-name="+job, "--timeout=30s")
			return err
		})
	}
	return namespace
}

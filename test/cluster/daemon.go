package main

// daemon is a program that a machine runs all the time.
type daemon struct {
	name  string
	flags []string
}

// etcdFlags keep the data in memory, as the machine's root is, and never wait for a disk.
func etcdFlags() []string {
	return []string{
		"--name=control", "--data-dir=/run/etcd", "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=control=http://127.0.0.1:2380",
	}
}

func apiServerFlags(m machine) []string {
	return []string{
		"--etcd-servers=http://127.0.0.1:2379", "--secure-port=6443", "--advertise-address=" + m.Address.String(),
		"--tls-cert-file=" + pkiDir + "/apiserver.crt", "--tls-private-key-file=" + pkiDir + "/apiserver.key",
		"--client-ca-file=" + pkiDir + "/ca.crt",
		"--kubelet-certificate-authority=" + pkiDir + "/ca.crt",
		"--kubelet-client-certificate=" + pkiDir + "/kubelet-client.crt", "--kubelet-client-key=" + pkiDir + "/kubelet-client.key",
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + pkiDir + "/sa.pub", "--service-account-signing-key-file=" + pkiDir + "/sa.key",
		"--service-cluster-ip-range=" + serviceNetwork, "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--requestheader-client-ca-file=" + pkiDir + "/front-ca.crt", "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + pkiDir + "/front-proxy-client.crt", "--proxy-client-key-file=" + pkiDir + "/front-proxy-client.key",
		// No kube-proxy runs here: webhooks and aggregated APIs are called at their pods, by the routes to them.
		"--enable-aggregator-routing=true",
	}
}

// controllerFlags leave the nodes' pod networks alone, as those are in the plan; with the default rate of 20 requests a second the
// controllers would need 5 s more to start.
func controllerFlags() []string {
	return []string{
		"--kubeconfig=" + pkiDir + "/controllers.kubeconfig", "--leader-elect=false", "--bind-address=127.0.0.1",
		"--use-service-account-credentials=true", "--service-account-private-key-file=" + pkiDir + "/sa.key", "--root-ca-file=" + pkiDir + "/ca.crt",
		"--cluster-signing-cert-file=" + pkiDir + "/ca.crt", "--cluster-signing-key-file=" + pkiDir + "/ca.key",
		"--allocate-node-cidrs=false", "--cluster-cidr=" + podNetwork, "--service-cluster-ip-range=" + serviceNetwork,
		"--kube-api-qps=1000", "--kube-api-burst=2000",
	}
}

func schedulerFlags() []string {
	return []string{"--kubeconfig=" + pkiDir + "/scheduler.kubeconfig", "--leader-elect=false", "--bind-address=127.0.0.1"}
}

func kubeletFlags(m machine) []string {
	return []string{
		"--config=/etc/kubernetes/kubelet.yaml", "--kubeconfig=" + pkiDir + "/kubelet.kubeconfig",
		"--hostname-override=" + m.Name, "--node-ip=" + m.Address.String(),
	}
}

func proxyFlags() []string { return []string{"--config=/etc/kubernetes/proxy.yaml"} }

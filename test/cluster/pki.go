package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLife is for one run of the cluster: each `up` makes all of them anew.
const certificateLife = 365 * 24 * time.Hour

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make authority %s: %w", name, err)
	}
	template, err := newTemplate(pkix.Name{CommonName: name})
	if err != nil {
		return nil, fmt.Errorf("make authority %s: %w", name, err)
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make authority %s: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate, key}, err
}

// identity is a certificate and its key, in PEM.
type identity struct {
	certificate, key []byte
}

// issue makes an identity: who it is to Kubernetes (user and group), and under which names and addresses it serves, if it does.
func (a *authority) issue(user, group string, serves ...string) (identity, error) {
	subject := pkix.Name{CommonName: user}
	if group != "" {
		subject.Organization = []string{group}
	}
	template, err := newTemplate(subject)
	if err != nil {
		return identity{}, fmt.Errorf("issue certificate for %s: %w", user, err)
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, name := range serves {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, fmt.Errorf("issue certificate for %s: %w", user, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return identity{}, fmt.Errorf("issue certificate for %s: %w", user, err)
	}
	keyPEM, err := encodeKey(key)
	return identity{encode("CERTIFICATE", der), keyPEM}, err
}

func (a *authority) pem() []byte { return encode("CERTIFICATE", a.certificate.Raw) }

func newTemplate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}, err
}

func encode(kind string, content []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
}

func encodeKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return encode("PRIVATE KEY", der), err
}

// pki is all the secrets of a cluster.
type pki struct {
	root, front *authority // front signs only what the API server shows to aggregated APIs
	tokens      *rsa.PrivateKey
}

func newPKI() (*pki, error) {
	root, err := newAuthority("magpie-cluster")
	if err != nil {
		return nil, err
	}
	front, err := newAuthority("magpie-cluster-front-proxy")
	if err != nil {
		return nil, err
	}
	tokens, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make the key of service account tokens: %w", err)
	}
	return &pki{root, front, tokens}, nil
}

// write puts into the folder what the machine needs, and no other's.
func (p *pki) write(m machine, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write keys of %s: %w", m.Name, err)
	}
	parts := p.controlFiles
	if m.isNode() {
		parts = p.nodeFiles
	}
	files, err := parts(m)
	if err != nil {
		return fmt.Errorf("write keys of %s: %w", m.Name, err)
	}
	files["ca.crt"] = p.root.pem()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("write keys of %s: %w", m.Name, err)
		}
	}
	return nil
}

func (p *pki) controlFiles(m machine) (map[string][]byte, error) {
	files := map[string][]byte{"front-ca.crt": p.front.pem()}
	var err error
	if files["ca.key"], err = encodeKey(p.root.key); err != nil {
		return nil, err
	}
	if files["sa.key"], err = encodeKey(p.tokens); err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(p.tokens.Public())
	if err != nil {
		return nil, err
	}
	files["sa.pub"] = encode("PUBLIC KEY", public)
	server, err := p.root.issue("kube-apiserver", "", m.Address.String(), firstService, "127.0.0.1", "localhost",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
	if err != nil {
		return nil, err
	}
	client, err := p.root.issue("kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return nil, err
	}
	front, err := p.front.issue("front-proxy-client", "")
	if err != nil {
		return nil, err
	}
	for name, id := range map[string]identity{"apiserver": server, "kubelet-client": client, "front-proxy-client": front} {
		files[name+".crt"], files[name+".key"] = id.certificate, id.key
	}
	if files["controllers.kubeconfig"], err = p.kubeconfig("system:kube-controller-manager", ""); err != nil {
		return nil, err
	}
	files["scheduler.kubeconfig"], err = p.kubeconfig("system:kube-scheduler", "")
	return files, err
}

func (p *pki) nodeFiles(m machine) (map[string][]byte, error) {
	files := map[string][]byte{}
	server, err := p.root.issue("system:node:"+m.Name, "system:nodes", m.Name, m.Address.String())
	if err != nil {
		return nil, err
	}
	files["kubelet.crt"], files["kubelet.key"] = server.certificate, server.key
	if files["kubelet.kubeconfig"], err = p.kubeconfig("system:node:"+m.Name, "system:nodes"); err != nil {
		return nil, err
	}
	files["proxy.kubeconfig"], err = p.kubeconfig("system:kube-proxy", "")
	return files, err
}

// kubeconfig is the way in for a user.
func (p *pki) kubeconfig(user, group string) ([]byte, error) {
	id, err := p.root.issue(user, group)
	if err != nil {
		return nil, err
	}
	return render("kubeconfig", kubeconfigText, struct {
		User, Server                string
		Authority, Certificate, Key []byte
	}{user, apiServerURL, p.root.pem(), id.certificate, id.key})
}

const kubeconfigText = `apiVersion: v1
kind: Config
clusters:
- name: magpie-test
  cluster:
    server: {{.Server}}
    certificate-authority-data: {{base64 .Authority}}
users:
- name: {{.User}}
  user:
    client-certificate-data: {{base64 .Certificate}}
    client-key-data: {{base64 .Key}}
contexts:
- name: magpie-test
  context: {cluster: magpie-test, user: {{.User}}}
current-context: magpie-test
`

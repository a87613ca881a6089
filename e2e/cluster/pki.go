package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// certificateLife outlasts every cluster by far.
const certificateLife = 30 * 24 * time.Hour

// authority signs the cluster's certificates; one for all purposes, since the cluster is one machine's and gone soon.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// subject is one certificate: whose, and for which servers ("" in neither: a client).
type subject struct {
	file, name string
	groups     []string
	ips, dns   []string
}

// writePKI makes every certificate and kubeconfig of the cluster below dir: the users' names and groups are those
// that Kubernetes' own roles are bound to (https://kubernetes.io/docs/reference/access-authn-authz/rbac/).
func writePKI(dir string) error {
	ca, err := newAuthority(filepath.Join(dir, "pki"))
	if err != nil {
		return err
	}
	for _, s := range []subject{
		{file: "apiserver", name: "kube-apiserver", ips: []string{"127.0.0.1", apiIP, nodeIP},
			dns: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}},
		{file: "kubelet-serving", name: "system:node:" + nodeName, groups: []string{"system:nodes"},
			ips: []string{"127.0.0.1", nodeIP}, dns: []string{nodeName}},
		{file: "apiserver-kubelet", name: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		{file: "front-proxy", name: "front-proxy"},
	} {
		if err := ca.issue(s); err != nil {
			return err
		}
	}
	for _, s := range []subject{
		{file: "admin", name: "admin", groups: []string{"system:masters"}},
		{file: "kube-controller-manager", name: "system:kube-controller-manager"},
		{file: "kube-scheduler", name: "system:kube-scheduler"},
		{file: "kubelet", name: "system:node:" + nodeName, groups: []string{"system:nodes"}},
		{file: "kube-proxy", name: "system:kube-proxy"},
	} {
		if err := ca.issue(s); err != nil {
			return err
		}
		if err := ca.writeKubeconfig(s.file, filepath.Join(dir, s.file+".kubeconfig")); err != nil {
			return err
		}
	}
	return ca.writeServiceAccountKey()
}

func newAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "e2e-ca"}, key)
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, cert: root, key: key}
	return a, a.writeCert("ca", root.Raw)
}

// issue writes <file>.crt and <file>.key.
func (a *authority) issue(s subject) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: s.name, Organization: s.groups},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:     s.dns,
	}
	for _, ip := range s.ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	if len(s.ips) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("signing the certificate %s: %w", s.file, err)
	}
	if err := a.writeCert(s.file, der); err != nil {
		return err
	}
	return a.writeKey(s.file, key)
}

func (a *authority) writeCert(file string, der []byte) error {
	return os.WriteFile(filepath.Join(a.dir, file+".crt"), pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: der}), 0o644)
}

func (a *authority) writeKey(file string, key crypto.PrivateKey) error {
	encoded, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(a.dir, file+".key"), encoded, 0o600)
}

// writeServiceAccountKey writes sa.key, which signs the pods' tokens, and sa.pub, which verifies them.
func (a *authority) writeServiceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	if err := os.WriteFile(filepath.Join(a.dir, "sa.pub"), encoded, 0o644); err != nil {
		return err
	}
	return a.writeKey("sa", key)
}

func (a *authority) writeKubeconfig(user, path string) error {
	return a.writeKubeconfigFor("https://"+net.JoinHostPort(nodeIP, apiPort), user, path)
}

// writeKubeconfigFor writes a kubeconfig that holds everything itself, so that it can be copied elsewhere.
func (a *authority) writeKubeconfigFor(server, user, path string) error {
	config := clientcmdapi.NewConfig()
	cluster, auth := clientcmdapi.NewCluster(), clientcmdapi.NewAuthInfo()
	cluster.Server = server
	for _, file := range []struct {
		name string
		into *[]byte
	}{
		{"ca.crt", &cluster.CertificateAuthorityData},
		{user + ".crt", &auth.ClientCertificateData},
		{user + ".key", &auth.ClientKeyData},
	} {
		content, err := os.ReadFile(filepath.Join(a.dir, file.name))
		if err != nil {
			return err
		}
		*file.into = content
	}
	config.Clusters["e2e"], config.AuthInfos[user] = cluster, auth
	config.Contexts["e2e"] = &clientcmdapi.Context{Cluster: "e2e", AuthInfo: user}
	config.CurrentContext = "e2e"
	return clientcmd.WriteToFile(*config, path)
}

package certificates

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// Lifetimes. A certificate is renewed when a third of its life is left.
const (
	// ServerLife is how long a server certificate is valid. An authority is valid for
	// ten years (client-go's util/cert).
	ServerLife = 90 * 24 * time.Hour
	// clockSkew is how far the clock of a client may be behind.
	clockSkew = time.Hour
)

// Pair is the authority and the server certificate, in PEM, as they are stored.
type Pair struct {
	// Bundle contains the authorities to trust: the current one, then earlier ones that
	// are still valid.
	Bundle []byte
	// AuthorityKey is the private key of the bundle's first certificate.
	AuthorityKey []byte
	// Chain is the server's certificate, followed by the current authority signed by
	// the previous one, for clients that trust only the previous one. Key is the
	// server's private key.
	Chain, Key []byte
}

// renewed returns the pair as it should be now, which is the same pair if nothing is
// due. If the pair is empty, renewed makes one. If it cannot be read, renewed returns an
// error, because clients may trust its authority and a second one must not replace it.
func renewed(now time.Time, pair Pair, names []string) (next Pair, changed bool, err error) {
	if len(pair.Bundle) == 0 && len(pair.AuthorityKey) == 0 && len(pair.Chain) == 0 {
		return fresh(now, names)
	}
	authorities, err := cert.ParseCertsPEM(pair.Bundle)
	if err != nil {
		return Pair{}, false, fmt.Errorf("%s: %w", BundleKey, err)
	}
	signer, err := parseKey(pair.AuthorityKey)
	if err != nil {
		return Pair{}, false, fmt.Errorf("%s: %w", AuthorityKeyKey, err)
	}
	current := authorities[0]
	if !signs(signer, current) {
		return Pair{}, false, fmt.Errorf("%s does not belong to the first certificate of %s", AuthorityKeyKey, BundleKey)
	}
	if due(now, current) {
		return handedOver(now, authorities, signer, names)
	}
	if served, err := tls.X509KeyPair(pair.Chain, pair.Key); err == nil && !due(now, served.Leaf) && covers(served.Leaf, names) && served.Leaf.CheckSignatureFrom(current) == nil {
		return pair, false, nil
	}
	// Clients that trust only an earlier authority must still verify the chain.
	chain, key, err := serverCertificate(now, current, signer, names)
	if err != nil {
		return Pair{}, false, err
	}
	if crossed := intermediates(pair.Chain); len(crossed) > 0 {
		chain = append(chain, crossed...)
	}
	pair.Chain, pair.Key = chain, key
	return pair, true, nil
}

// fresh makes a new authority and a server certificate.
func fresh(now time.Time, names []string) (Pair, bool, error) {
	authority, signer, err := newAuthority(now)
	if err != nil {
		return Pair{}, false, err
	}
	return sign(now, []*x509.Certificate{authority}, signer, names, nil)
}

// handedOver makes a new authority. The current authority, which expires soon, signs it
// too, so that clients that have not read the new bundle yet can verify the chain.
func handedOver(now time.Time, authorities []*x509.Certificate, signer crypto.Signer, names []string) (Pair, bool, error) {
	authority, nextSigner, err := newAuthority(now)
	if err != nil {
		return Pair{}, false, err
	}
	var cross []byte
	if old := authorities[0]; now.Before(old.NotAfter) {
		template := *authority
		template.NotAfter = old.NotAfter
		der, err := x509.CreateCertificate(rand.Reader, &template, old, nextSigner.Public(), signer)
		if err != nil {
			return Pair{}, false, fmt.Errorf("sign the new authority with the previous one: %w", err)
		}
		crossed, err := x509.ParseCertificate(der)
		if err != nil {
			return Pair{}, false, fmt.Errorf("sign the new authority with the previous one: %w", err)
		}
		if cross, err = cert.EncodeCertificates(crossed); err != nil {
			return Pair{}, false, fmt.Errorf("encode certificate: %w", err)
		}
	}
	valid := slices.DeleteFunc(slices.Clone(authorities), func(c *x509.Certificate) bool { return !now.Before(c.NotAfter) })
	return sign(now, append([]*x509.Certificate{authority}, valid...), nextSigner, names, cross)
}

// sign makes a server certificate signed by the first authority.
func sign(now time.Time, authorities []*x509.Certificate, signer crypto.Signer, names []string, cross []byte) (Pair, bool, error) {
	chain, key, err := serverCertificate(now, authorities[0], signer, names)
	if err != nil {
		return Pair{}, false, err
	}
	authorityKey, err := keyutil.MarshalPrivateKeyToPEM(signer)
	if err != nil {
		return Pair{}, false, fmt.Errorf("encode key: %w", err)
	}
	bundle, err := cert.EncodeCertificates(authorities...)
	if err != nil {
		return Pair{}, false, fmt.Errorf("encode certificate: %w", err)
	}
	return Pair{Bundle: bundle, AuthorityKey: authorityKey, Chain: append(chain, cross...), Key: key}, true, nil
}

func newAuthority(now time.Time) (*x509.Certificate, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	// The name distinguishes authorities, because clients find issuers by name.
	authority, err := cert.NewSelfSignedCACert(cert.Config{
		CommonName: "bitbucket-runner-scaler " + now.UTC().Format(time.RFC3339Nano), NotBefore: now.Add(-clockSkew),
	}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make authority: %w", err)
	}
	return authority, key, nil
}

func serverCertificate(now time.Time, authority *x509.Certificate, signer crypto.Signer, names []string) (chain, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("make serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(ServerLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, private.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("sign the server's certificate: %w", err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("sign the server's certificate: %w", err)
	}
	if chain, err = cert.EncodeCertificates(made); err != nil {
		return nil, nil, fmt.Errorf("encode certificate: %w", err)
	}
	if key, err = keyutil.MarshalPrivateKeyToPEM(private); err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return chain, key, nil
}

// due reports whether less than a third of a certificate's life is left.
func due(now time.Time, c *x509.Certificate) bool {
	return c.NotAfter.Sub(now) < c.NotAfter.Sub(c.NotBefore)/3
}

func covers(c *x509.Certificate, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return c.VerifyHostname(name) != nil })
}

func parseKey(pem []byte) (crypto.Signer, error) {
	key, err := keyutil.ParsePrivateKeyPEM(pem)
	if err != nil {
		return nil, fmt.Errorf("want a private key in PEM: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key cannot sign")
	}
	return signer, nil
}

func signs(signer crypto.Signer, authority *x509.Certificate) bool {
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(authority.PublicKey)
}

// intermediates returns the certificates after the first one of a chain.
func intermediates(chain []byte) []byte {
	certificates, err := cert.ParseCertsPEM(chain)
	if err != nil || len(certificates) < 2 {
		return nil
	}
	rest, err := cert.EncodeCertificates(certificates[1:]...)
	if err != nil {
		return nil
	}
	return rest
}

// equal reports whether two pairs are the same.
func (p Pair) equal(other Pair) bool {
	return bytes.Equal(p.Bundle, other.Bundle) && bytes.Equal(p.AuthorityKey, other.AuthorityKey) && bytes.Equal(p.Chain, other.Chain) && bytes.Equal(p.Key, other.Key)
}

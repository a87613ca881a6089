package certificates

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc/credentials/tls/certprovider"
	"google.golang.org/grpc/credentials/tls/certprovider/pemfile"
)

// reloadEvery is how soon a changed file is served.
const reloadEvery = 10 * time.Second

// Files serves the user's own certificate, as cert-manager keeps one in a mounted
// Secret, and takes up each change of it.
type Files struct {
	provider certprovider.Provider
	bundle   string
}

// NewFiles reads the files; bundle, the authorities to trust, may be empty: then
// clients must trust the certificate's issuer already.
func NewFiles(ctx context.Context, certificate, key, bundle string) (*Files, error) {
	provider, err := pemfile.NewProvider(pemfile.Options{CertFile: certificate, KeyFile: key, RefreshDuration: reloadEvery})
	if err != nil {
		return nil, fmt.Errorf("certificate files: %w", err)
	}
	f := &Files{provider: provider, bundle: bundle}
	_, err = tls.LoadX509KeyPair(certificate, key)
	if err == nil && bundle != "" {
		_, err = f.Bundle(ctx)
	}
	if err != nil {
		provider.Close()
		return nil, fmt.Errorf("certificate files: %w", err)
	}
	return f, nil
}

// NewClientAuthorities reads the authorities of clients from a file in PEM, and takes
// up each change of it. The caller closes the result.
func NewClientAuthorities(file string) (certprovider.Provider, error) {
	bundle, err := os.ReadFile(file)
	if err == nil {
		err = validBundle(bundle)
	}
	if err != nil {
		return nil, fmt.Errorf("authorities of clients: %w", err)
	}
	provider, err := pemfile.NewProvider(pemfile.Options{RootFile: file, RefreshDuration: reloadEvery})
	if err != nil {
		return nil, fmt.Errorf("authorities of clients: %w", err)
	}
	return provider, nil
}

// Close ends the watch.
func (f *Files) Close() { f.provider.Close() }

// Certificate is the one to serve a new connection with.
func (f *Files) Certificate(ctx context.Context) (*tls.Certificate, error) {
	material, err := f.provider.KeyMaterial(ctx)
	if err != nil {
		return nil, fmt.Errorf("certificate files: %w", err)
	}
	if len(material.Certs) == 0 {
		return nil, errors.New("certificate files: no certificate")
	}
	return &material.Certs[0], nil
}

// Bundle are the authorities to trust, in PEM; nil where none was given.
func (f *Files) Bundle(context.Context) ([]byte, error) {
	if f.bundle == "" {
		return nil, nil
	}
	bundle, err := os.ReadFile(f.bundle)
	if err != nil {
		return nil, fmt.Errorf("authorities to trust: %w", err)
	}
	return bundle, validBundle(bundle)
}

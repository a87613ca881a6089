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

// reloadInterval is the time between two reads of the files.
const reloadInterval = 10 * time.Second

// Files serves the user's own certificate from files, such as those that cert-manager
// keeps in a Secret. It reads them again when they change.
type Files struct {
	provider certprovider.Provider
	bundle   string
}

// NewFiles reads the files. bundle is the file of the authorities to trust. If it is
// empty, clients must already trust the certificate's issuer.
func NewFiles(ctx context.Context, certificate, key, bundle string) (*Files, error) {
	provider, err := pemfile.NewProvider(pemfile.Options{CertFile: certificate, KeyFile: key, RefreshDuration: reloadInterval})
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

// NewClientAuthorities reads the authorities of clients from a file in PEM, and reads
// it again when it changes. The caller closes the result.
func NewClientAuthorities(file string) (certprovider.Provider, error) {
	bundle, err := os.ReadFile(file)
	if err == nil {
		err = validBundle(bundle)
	}
	if err != nil {
		return nil, fmt.Errorf("authorities of clients: %w", err)
	}
	provider, err := pemfile.NewProvider(pemfile.Options{RootFile: file, RefreshDuration: reloadInterval})
	if err != nil {
		return nil, fmt.Errorf("authorities of clients: %w", err)
	}
	return provider, nil
}

// Close stops watching the files.
func (f *Files) Close() { f.provider.Close() }

// Certificate returns the certificate for a new connection.
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

// Bundle returns the authorities to trust, in PEM. It returns nil if no file was given.
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

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"bitbucket-runner-scaler/externalscaler/certificates"
)

// webhookFiles returns the paths of the certificate and the key of --webhook-tls. ok is
// false if it names no files.
func (c config) webhookFiles() (certificate, key string, ok bool) {
	certificate, key, ok = strings.Cut(c.webhookTLS, ",")
	return certificate, key, ok
}

func (c config) webhookFaults() (faults []error) {
	if c.webhookListen != "" {
		if _, _, err := net.SplitHostPort(c.webhookListen); err != nil {
			faults = append(faults, fmt.Errorf("--webhook-listen: %q, want host:port or :port", c.webhookListen))
		}
	}
	certificate, key, given := c.webhookFiles()
	switch {
	case !given && c.webhookTLS != "off":
		return append(faults, fmt.Errorf("--webhook-tls: %q, want off or CERT,KEY", c.webhookTLS))
	case !given:
		return faults
	case c.webhookListen == "":
		faults = append(faults, errors.New("--webhook-tls: needs --webhook-listen"))
	}
	for _, path := range []string{certificate, key} {
		if _, err := os.Stat(path); err != nil {
			faults = append(faults, fmt.Errorf("--webhook-tls: %w", err))
		}
	}
	return faults
}

// listenForWebhooks returns the listener for deliveries, or nil without --webhook-listen. end
// closes it and stops the renewal of its certificate.
func listenForWebhooks(ctx context.Context, c config) (listener net.Listener, end func(), err error) {
	if c.webhookListen == "" {
		return nil, func() {}, nil
	}
	var listen net.ListenConfig
	plain, err := listen.Listen(ctx, "tcp", c.webhookListen)
	if err != nil {
		return nil, nil, fmt.Errorf("--webhook-listen: %w", err)
	}
	endPlain := func() { _ = plain.Close() } // the server has closed it, unless the start failed
	certificate, key, given := c.webhookFiles()
	if !given {
		return plain, endPlain, nil
	}
	files, err := certificates.NewFiles(ctx, certificate, key, "")
	if err != nil {
		endPlain()
		return nil, nil, fmt.Errorf("--webhook-tls: %w", err)
	}
	return tls.NewListener(plain, &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return files.Certificate(hello.Context()) },
	}), func() { endPlain(); files.Close() }, nil
}

package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/credentials/tls/certprovider/pemfile"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/security/advancedtls"
	"google.golang.org/grpc/status"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

const (
	// keepaliveTime is how long a connection may be silent before it is checked. The
	// server must permit it (keepalive.EnforcementPolicy, MinTime).
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// bufferSize, in bytes, is enough for the few small messages of runner/v1.
	bufferSize = 4 << 10
	// maxToken, in bytes, is far above the size of any ServiceAccount token.
	maxToken = 64 << 10
)

// tokenFile sends the content of a file, which it reads for each call, as bearer
// token.
type tokenFile struct {
	path   string
	secure bool
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	file, err := os.Open(t.path)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, "read token: "+err.Error())
	}
	defer func() { _ = file.Close() }() // only read
	content, err := io.ReadAll(io.LimitReader(file, maxToken))
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, "read token: "+err.Error())
	}
	token := strings.TrimSpace(string(content))
	if token == "" {
		return nil, status.Error(codes.Unauthenticated, "read token: "+t.path+" is empty")
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (t tokenFile) RequireTransportSecurity() bool { return t.secure }

// rootsInterval is how often the CA file is checked for changes.
const rootsInterval = 10 * time.Second

// transport returns the credentials of the connection. end stops the watch of the CA
// file.
func transport(config Config) (creds credentials.TransportCredentials, end func(), err error) {
	if config.TLS == TLSOff {
		return insecure.NewCredentials(), func() {}, nil
	}
	roots, err := pemfile.NewProvider(pemfile.Options{RootFile: config.CAFile, RefreshDuration: rootsInterval})
	if err != nil {
		return nil, nil, fmt.Errorf("ca-file: %w", err)
	}
	creds, err = advancedtls.NewClientCreds(&advancedtls.Options{
		RootOptions: advancedtls.RootCertificateOptions{RootProvider: roots}, VerificationType: advancedtls.CertAndHostVerification,
	})
	if err != nil {
		roots.Close()
		return nil, nil, fmt.Errorf("ca-file: %w", err)
	}
	return creds, roots.Close, nil
}

// registrarClient is the connection to the control plane. It is safe for concurrent
// use.
type registrarClient struct {
	dial func() (*grpc.ClientConn, error)
	end  func()

	mu     sync.Mutex
	conn   *grpc.ClientConn
	closed bool
}

func newRegistrarClient(config Config) (*registrarClient, error) {
	creds, end, err := transport(config)
	if err != nil {
		return nil, err
	}
	dial := func() (*grpc.ClientConn, error) {
		return grpc.NewClient(config.ScalerAddress,
			grpc.WithTransportCredentials(creds),
			grpc.WithPerRPCCredentials(tokenFile{path: config.TokenFile, secure: config.TLS != TLSOff}),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           grpcbackoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
				MinConnectTimeout: 5 * time.Second,
			}),
			// The sidecar retries by itself, and no TXT records are looked up.
			grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
			grpc.WithReadBufferSize(bufferSize), grpc.WithWriteBufferSize(bufferSize),
		)
	}
	conn, err := dial()
	if err != nil {
		end()
		return nil, fmt.Errorf("connect to %s: %w", config.ScalerAddress, err)
	}
	return &registrarClient{dial: dial, end: end, conn: conn}, nil
}

// call calls f with a client. If f gets Unavailable over an established connection,
// call replaces the connection: behind a Service's address, an open connection
// stays with a replica that is no longer the leader.
func (c *registrarClient) call(f func(runnerv1.RunnerServiceClient) error) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	err := f(runnerv1.NewRunnerServiceClient(conn))
	if status.Code(err) != codes.Unavailable || conn.GetState() != connectivity.Ready {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != conn || c.closed {
		return err
	}
	fresh, dialErr := c.dial()
	if dialErr != nil {
		return errors.Join(err, dialErr)
	}
	c.conn = fresh
	_ = conn.Close() // it is no longer used
	return err
}

func (c *registrarClient) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	_ = c.conn.Close() // fails only if it is closed already
	c.end()
}

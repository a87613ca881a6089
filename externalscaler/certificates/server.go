package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/tls/certprovider"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Source provides the server's certificate and the authorities with which clients
// verify it.
type Source interface {
	Certificate(ctx context.Context) (*tls.Certificate, error)
	Bundle(ctx context.Context) ([]byte, error)
}

// ServerOptions returns the options that secure a gRPC server. If clients is not nil,
// KEDA must present a certificate of one of its authorities. Sidecars need none, because
// they authenticate with a token.
func ServerOptions(source Source, clients certprovider.Provider) []grpc.ServerOption {
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return source.Certificate(hello.Context()) },
	}
	var options []grpc.ServerOption
	if clients != nil {
		config.ClientAuth = tls.VerifyClientCertIfGiven
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			material, err := clients.KeyMaterial(hello.Context())
			if err != nil {
				return nil, fmt.Errorf("authorities of clients: %w", err)
			}
			current := config.Clone()
			current.ClientCAs = material.Roots
			return current, nil
		}
		options = append(options, grpc.ChainUnaryInterceptor(verifiedUnary), grpc.ChainStreamInterceptor(verifiedStream))
	}
	return append(options, grpc.Creds(credentials.NewTLS(config)))
}

// kedaService is the prefix of the methods that KEDA calls.
const kedaService = "/externalscaler.ExternalScaler/"

func verifiedUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := verified(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func verifiedStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := verified(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return handler(srv, stream)
}

// verified refuses a call from KEDA if its connection has no verified client certificate.
func verified(ctx context.Context, method string) error {
	if !strings.HasPrefix(method, kedaService) {
		return nil
	}
	if from, ok := peer.FromContext(ctx); ok {
		if info, ok := from.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
			return nil
		}
	}
	return status.Error(codes.Unauthenticated, "a client certificate is required (tlsClientCert and tlsClientKey of the trigger's TriggerAuthentication)")
}

func validBundle(bundle []byte) error {
	if !x509.NewCertPool().AppendCertsFromPEM(bundle) {
		return errors.New("authorities to trust: want one or more certificates in PEM")
	}
	return nil
}

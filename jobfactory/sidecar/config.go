package sidecar

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// Names in the shared folder.
const (
	// BinaryName is the copy of the sidecar's binary that the runner container starts.
	BinaryName = "sidecar"
	socketName = "sidecar.sock"
	markerName = "handed-out"
)

// maxSocketPath is what fits into sockaddr_un.sun_path, see unix(7).
const maxSocketPath = 107

// How the connection to the control plane is secured.
const (
	TLSOn = "on"
	// TLSOff is plain HTTP/2: the runner's OAuth secret crosses the network readable.
	TLSOff = "off"
)

// Config is what a Sidecar is made of.
type Config struct {
	// ScalerAddress is the control plane's gRPC endpoint, host:port. Required.
	ScalerAddress string
	// TLS says how the connection is secured: TLSOn or TLSOff.
	TLS string
	// CAFile holds, in PEM, the authorities of which the control plane's certificate
	// must be. It is read again when it changes. Required with TLSOn.
	CAFile string
	// TokenFile holds the pod's projected ServiceAccount token. It is read again
	// for each call, since it is renewed while the pod lives. Required.
	TokenFile string
	// Dir is the folder shared with the runner container, an absolute path.
	// Required.
	Dir string
	// Version of the build, told to the control plane.
	Version string
	// Logger; none discards.
	Logger *zap.Logger
}

// Validate reports every fault of the configuration at once.
func (c Config) Validate() error {
	faults := []error{validateDir(c.Dir)}
	if host, port, err := net.SplitHostPort(c.ScalerAddress); err != nil || host == "" || port == "" {
		faults = append(faults, fmt.Errorf("scaler-address: %q, want host:port", c.ScalerAddress))
	}
	if c.TLS != TLSOff && c.TLS != TLSOn {
		faults = append(faults, fmt.Errorf("tls: %q, want %q or %q", c.TLS, TLSOn, TLSOff))
	}
	if c.TLS == TLSOn && c.CAFile == "" {
		faults = append(faults, fmt.Errorf("ca-file: %q, want the path of a file", c.CAFile))
	}
	if c.TokenFile == "" {
		faults = append(faults, fmt.Errorf("token-file: %q, want the path of a file", c.TokenFile))
	}
	return errors.Join(faults...)
}

func validateDir(dir string) error {
	switch {
	case !filepath.IsAbs(dir):
		return fmt.Errorf("dir: %q, want an absolute path", dir)
	case len(filepath.Join(dir, socketName)) > maxSocketPath:
		return fmt.Errorf("dir: %q, want a path of at most %d bytes, so that a socket's fits", dir, maxSocketPath-len(socketName)-1)
	}
	return nil
}

// pace holds the bounds and intervals of a Sidecar; tests shorten them.
type pace struct {
	// call bounds each unary call.
	call time.Duration
	// retryBase and retryMax bound the pauses between tries to register.
	retryBase, retryMax time.Duration
	// slow is the pause after a refusal that time alone rarely mends.
	slow time.Duration
	// lag is how long a missing token or an unknown pod may be but a delay.
	lag time.Duration
	// attachBase and attachMax bound the pauses between streams.
	attachBase, attachMax time.Duration
	// settled is how long a stream must have lived for the pauses to begin anew.
	settled time.Duration
	// unanswered is how long a runner of a deleted pod must have been idle until it is
	// ended without the control plane's word.
	unanswered time.Duration
	// inFlight is how long a registration under way may take after SIGTERM.
	inFlight time.Duration
	// lastWords is how long a living exec may take to report its end after SIGTERM.
	lastWords time.Duration
	// deregister bounds the deregistration with all its tries.
	deregister time.Duration
	// deregisterCall bounds one of them.
	deregisterCall time.Duration
	// linger is how long the last states may take to get out.
	linger time.Duration
}

func defaultPace() pace {
	return pace{
		call:      30 * time.Second,
		retryBase: 500 * time.Millisecond, retryMax: 15 * time.Second,
		slow: 30 * time.Second, lag: 2 * time.Minute,
		attachBase: 200 * time.Millisecond, attachMax: 5 * time.Second, settled: 10 * time.Second,
		unanswered: 2 * time.Minute,
		inFlight:   5 * time.Second, lastWords: 10 * time.Second,
		deregister: 20 * time.Second, deregisterCall: 9 * time.Second,
		linger: 500 * time.Millisecond,
	}
}

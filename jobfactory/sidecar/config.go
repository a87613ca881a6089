package sidecar

import (
	"errors"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

// Names in the shared folder.
const (
	binaryName = "sidecar"
	markerName = "handed-out"
)

// Values of Config.TLS.
const (
	TLSOn = "on"
	// TLSOff means plain HTTP/2: the runner's OAuth secret can be read on the network.
	TLSOff = "off"
)

// Config configures a Sidecar.
type Config struct {
	// ScalerAddress is the control plane's gRPC endpoint, host:port. Required.
	ScalerAddress string
	// TLS is TLSOn or TLSOff.
	TLS string
	// CAFile holds, in PEM, the authorities that may sign the control plane's
	// certificate. It is read again when it changes. Required with TLSOn.
	CAFile string
	// TokenFile holds the pod's projected ServiceAccount token. It is read again for
	// each call, because the kubelet renews it. Required.
	TokenFile string
	// Dir is the folder shared with the runner container, an absolute path. Required.
	Dir string
	// Version of the build, which the sidecar sends to the control plane.
	Version string
	// Logger for what the sidecar does. Nil discards.
	Logger *zap.Logger
}

// Validate reports every fault of the configuration at once.
func (c Config) Validate() error {
	faults := []error{socket.ValidateDir(c.Dir)}
	if host, port, err := net.SplitHostPort(c.ScalerAddress); err != nil || host == "" || port == "" {
		faults = append(faults, fmt.Errorf("--scaler-address: %q, want host:port", c.ScalerAddress))
	}
	if c.TLS != TLSOff && c.TLS != TLSOn {
		faults = append(faults, fmt.Errorf("--tls: %q, want %q or %q", c.TLS, TLSOn, TLSOff))
	}
	if c.TLS == TLSOn && c.CAFile == "" {
		faults = append(faults, fmt.Errorf("--ca-file: %q, want the path of a file", c.CAFile))
	}
	if c.TokenFile == "" {
		faults = append(faults, fmt.Errorf("--token-file: %q, want the path of a file", c.TokenFile))
	}
	return errors.Join(faults...)
}

// pace holds the bounds and intervals of a Sidecar; tests shorten them.
type pace struct {
	// call bounds each call of Register.
	call time.Duration
	// retryBase and retryMax bound the pauses between two tries to register.
	retryBase, retryMax time.Duration
	// slow is the pause after a refusal that rarely goes away by itself.
	slow time.Duration
	// lag is how long an invalid token or an unknown pod may be a mere delay.
	lag time.Duration
	// attachBase and attachMax bound the pauses between two streams.
	attachBase, attachMax time.Duration
	// settled is how long a stream must last until the pauses start at attachBase again.
	settled time.Duration
	// unanswered is how long the runner of a deleted pod must be idle until the sidecar
	// stops it without an order.
	unanswered time.Duration
	// inFlight is how long a registration under way may continue after SIGTERM.
	inFlight time.Duration
	// lastReport is how long `sidecar exec` may take to report the end after SIGTERM.
	lastReport time.Duration
	// deregister bounds the deregistration, all tries included.
	deregister time.Duration
	// deregisterCall bounds one try.
	deregisterCall time.Duration
	// linger is how long the last reports may take after the sidecar's end.
	linger time.Duration
}

func defaultPace() pace {
	return pace{
		call:      30 * time.Second,
		retryBase: 500 * time.Millisecond, retryMax: 15 * time.Second,
		slow: 30 * time.Second, lag: 2 * time.Minute,
		attachBase: 200 * time.Millisecond, attachMax: 5 * time.Second, settled: 10 * time.Second,
		unanswered: 2 * time.Minute,
		inFlight:   5 * time.Second, lastReport: 10 * time.Second,
		deregister: 20 * time.Second, deregisterCall: 9 * time.Second,
		linger: 500 * time.Millisecond,
	}
}

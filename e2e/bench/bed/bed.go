// Package bed runs the real scaler as a process, with the emulator as Bitbucket, as many sidecars as
// are asked for on connections of their own, and KEDA's calls, all over loopback. Kubernetes is
// package apiserver. Nothing is measured here, and nothing remains after Close.
package bed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/bench/apiserver"
	"bitbucket-runner-scaler/e2e/process"
)

const (
	namespace = "bitbucket-runner-scaler"
	runners   = "bitbucket-runner"
	// scalerAddress is what triggers have. The scaler listens elsewhere.
	scalerAddress = "bitbucket-runner-scaler." + namespace + ":9090"
	// memoryLimit is what the scaler sets itself with the limit of 256 MiB that the Deployment has.
	memoryLimit = "230MiB"
	// endGrace is how long a process may take to end.
	endGrace = 10 * time.Second
	// patience bounds the start of a process.
	patience = time.Minute
)

// Bed is a running installation.
type Bed struct {
	// Dir has the logs. Programs has the built programs.
	Dir, Programs string
	Certificate   Certificate
	Control       *emulator.Control

	api      *apiserver.Server
	http     *http.Server
	emulator *process.Process
	scaler   *process.Process
	// The addresses.
	apiURL, emulatorURL          string
	grpcPort, httpPort, profiles string
	template                     corev1.PodTemplateSpec
	plainTemplate                map[string]any
	groups                       []Group
	sidecars                     []*Sidecar
	life                         context.Context //nolint:containedctx // that of the sidecars
	end                          context.CancelFunc
	running                      sync.WaitGroup
}

// Start starts everything with that many workspaces.
func Start(ctx context.Context, dir, programs string, workspaces int) (b *Bed, err error) {
	b = &Bed{Dir: dir, Programs: programs, api: apiserver.New()}
	b.life, b.end = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	if b.Certificate, err = NewCertificate(dir); err != nil {
		return b, err
	}
	if b.template, b.plainTemplate, err = exampleTemplate(); err != nil {
		return b, err
	}
	listener, err := listen(ctx)
	if err != nil {
		return b, err
	}
	b.apiURL = "http://" + listener.Addr().String()
	b.http = &http.Server{Handler: b.api, ReadHeaderTimeout: patience}
	go func() { _ = b.http.Serve(listener) }() // ends with Close
	ports, err := freePorts(ctx, 4)
	if err != nil {
		return b, err
	}
	b.emulatorURL = "http://127.0.0.1:" + ports[0]
	b.grpcPort, b.httpPort, b.profiles = ports[1], ports[2], ports[3]
	// The runners have no process that sends heartbeats, and all are registered within an hour.
	if b.emulator, err = process.Start(filepath.Join(dir, "emulator.log"), os.Environ(), filepath.Join(programs, "bitbucket-emulator"),
		"serve", "--listen", "127.0.0.1:"+ports[0], "--workspaces", strconv.Itoa(workspaces), "--rate-limit=-1", "--offline-after=24h"); err != nil {
		return b, err
	}
	b.Control = emulator.NewControl(b.emulatorURL)
	if err = b.until(ctx, "the emulator", b.emulatorURL+"/healthz"); err != nil {
		return b, err
	}
	return b, b.StartScaler(ctx)
}

// StartScaler starts a scaler with its default intervals, on the ports of the one before, and
// returns when it is ready.
func (b *Bed) StartScaler(ctx context.Context) error {
	kubeconfig := filepath.Join(b.Dir, "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"bench","cluster":{"server":%q}}],"contexts":[{"name":"bench","context":{"cluster":"bench","user":"bench"}}],"users":[{"name":"bench","user":{}}],"current-context":"bench"}`, b.apiURL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	environment := []string{
		"PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + kubeconfig, "GOMEMLIMIT=" + memoryLimit,
		"BITBUCKET_OAUTH_CLIENT_ID=" + emulator.OAuthClientID, "BITBUCKET_OAUTH_CLIENT_SECRET=" + emulator.OAuthClientSecret,
	}
	var err error
	b.scaler, err = process.Start(filepath.Join(b.Dir, "scaler.log"), environment, filepath.Join(b.Programs, "scaler"),
		"--grpc-listen=127.0.0.1:"+b.grpcPort, "--http-listen=127.0.0.1:"+b.httpPort, "--pprof-listen=127.0.0.1:"+b.profiles,
		"--tls="+b.Certificate.File+","+b.Certificate.Key+","+b.Certificate.File, "--leader-elect=false", "--namespace="+namespace,
		"--bitbucket-url="+b.emulatorURL, "--bitbucket-oauth-url="+b.emulatorURL+"/site/oauth2/access_token", "--hourly-budget=1000000", "--log-level=warn")
	if err != nil {
		return err
	}
	return b.until(ctx, "the scaler", "http://127.0.0.1:"+b.httpPort+"/readyz")
}

// KillScaler kills the scaler, as a node's death does.
func (b *Bed) KillScaler() { b.scaler.Kill() }

// Scaler returns the process of the scaler, for what is measured.
func (b *Bed) Scaler() Gauge {
	return Gauge{PID: b.scaler.PID(), HTTP: "http://127.0.0.1:" + b.httpPort, Profiles: "http://127.0.0.1:" + b.profiles}
}

// Groups returns the runner groups so far.
func (b *Bed) Groups() []Group { return b.groups }

// Sidecars returns the sidecars so far.
func (b *Bed) Sidecars() []*Sidecar { return b.sidecars }

// Deleted counts the Jobs that the scaler has deleted.
func (b *Bed) Deleted() int { return b.api.Deleted() }

// Dial returns a connection to the scaler such as KEDA's.
func (b *Bed) Dial() (*grpc.ClientConn, error) { return Dial("127.0.0.1:"+b.grpcPort, b.Certificate) }

// Dial returns a connection to a server with that certificate.
func Dial(address string, certificate Certificate) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(certificate.client())))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return conn, nil
}

// Poll makes KEDA's calls for each group at an interval until ctx ends.
func (b *Bed) Poll(ctx context.Context, interval time.Duration) error {
	conn, err := b.Dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	client := pb.NewExternalScalerClient(conn)
	var polls sync.WaitGroup
	for i, group := range b.groups {
		polls.Go(func() {
			if !wait(ctx, interval*time.Duration(i)/time.Duration(len(b.groups))) {
				return
			}
			ticker := time.NewTicker(interval)
			defer ticker.Stop()
			for {
				_, _ = client.GetMetricSpec(ctx, group.Ref) // errors are the scaler's metrics to show
				_, _ = client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: group.Ref})
				_, _ = client.IsActive(ctx, group.Ref)
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
			}
		})
	}
	polls.Wait()
	return nil
}

// Close ends the sidecars and all processes.
func (b *Bed) Close() error {
	b.end()
	b.running.Wait()
	for _, s := range b.sidecars {
		s.close()
	}
	for _, p := range []*process.Process{b.scaler, b.emulator} {
		if p != nil {
			p.End(endGrace)
		}
	}
	if b.http != nil {
		return b.http.Close()
	}
	return nil
}

// until waits for a server to answer.
func (b *Bed) until(ctx context.Context, what, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if _, err := get(ctx, url); err == nil {
			return nil
		}
		if !wait(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%s does not answer: see the logs in %s", what, b.Dir)
		}
	}
}

// wait returns false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func listen(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	return listener, nil
}

// freePorts returns ports on loopback that are free now.
func freePorts(ctx context.Context, n int) (ports []string, err error) {
	for range n {
		listener, err := listen(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = listener.Close() }() // all at the end, so that no port is taken twice
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		ports = append(ports, port)
	}
	return ports, nil
}

// Beside starts another server with the same certificate, for comparison. arguments returns its
// arguments, by its ports for gRPC and for /metrics.
func (b *Bed) Beside(ctx context.Context, program string, arguments func(grpcPort, httpPort string) []string) (gauge Gauge, conn *grpc.ClientConn, end func(), err error) {
	ports, err := freePorts(ctx, 2)
	if err != nil {
		return Gauge{}, nil, nil, err
	}
	other, err := process.Start(filepath.Join(b.Dir, "reference.log"), os.Environ(), program, arguments(ports[0], ports[1])...)
	if err != nil {
		return Gauge{}, nil, nil, err
	}
	gauge = Gauge{PID: other.PID(), HTTP: "http://127.0.0.1:" + ports[1]}
	if err := b.until(ctx, "the reference", gauge.HTTP+"/metrics"); err != nil {
		other.End(endGrace)
		return Gauge{}, nil, nil, err
	}
	conn, err = Dial("127.0.0.1:"+ports[0], b.Certificate)
	return gauge, conn, func() {
		if conn != nil {
			_ = conn.Close() // it is no longer used
		}
		other.End(endGrace)
	}, err
}

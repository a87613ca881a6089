package metrics

import (
	"strconv"
	"time"

	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// Metrics are what the parts of the control plane count and time. All methods return at once.
type Metrics struct {
	registrations, removals, calls *prometheus.CounterVec
	latency, rebuilt               *prometheus.HistogramVec
	groups                         *groupHistograms
	grpc                           *grpcprometheus.ServerMetrics
}

// New returns Metrics that show 0 for each outcome of a registration and each reason of a
// removal.
func New(outcomes, reasons []string) *Metrics {
	m := &Metrics{
		registrations: registrations.newCounters(), removals: removals.newCounters(), calls: calls.newCounters(), latency: latency.newHistograms(), rebuilt: rebuilt.newHistograms(),
		groups: newGroupHistograms(),
		grpc: grpcprometheus.NewServerMetrics(grpcprometheus.WithServerHandlingTimeHistogram(
			grpcprometheus.WithHistogramBuckets([]float64{0.001, 0.005, 0.025, 0.1, 0.5, 2.5}))),
	}
	m.rebuilt.WithLabelValues() // 0 from the start
	for _, outcome := range outcomes {
		m.registrations.WithLabelValues(outcome)
	}
	for _, reason := range reasons {
		m.removals.WithLabelValues(reason)
	}
	return m
}

// Register adds all metrics to a registry: these, what the sources are at each scrape, and those
// of the Go runtime.
func (m *Metrics) Register(registry *prometheus.Registry, sources Sources) {
	registry.MustRegister(m.registrations, m.removals, m.calls, m.latency, m.rebuilt, m.grpc, &reader{Sources: sources, histograms: m.groups},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// ServerOptions count the calls of a gRPC server.
func (m *Metrics) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(m.grpc.UnaryServerInterceptor()), grpc.ChainStreamInterceptor(m.grpc.StreamServerInterceptor())}
}

// Serves shows 0 for each method of a gRPC server and each code.
func (m *Metrics) Serves(server reflection.ServiceInfoProvider) { m.grpc.InitializeMetrics(server) }

// Registration counts a registration's outcome.
func (m *Metrics) Registration(outcome string) { m.registrations.WithLabelValues(outcome).Inc() }

// Removal counts a removed runner or Job.
func (m *Metrics) Removal(reason string) { m.removals.WithLabelValues(reason).Inc() }

// Call counts one call to Bitbucket.
func (m *Metrics) Call(credentials, method, route string, status int, took time.Duration) {
	m.calls.WithLabelValues(credentials, method, route, strconv.Itoa(status)).Inc()
	m.latency.WithLabelValues(method, route).Observe(took.Seconds())
}

// Waited implements queue.Config.Waited.
func (m *Metrics) Waited(namespace, name string, wait time.Duration) {
	m.groups.observe(waits, fleet.GroupKey{Namespace: namespace, Name: name}, wait.Seconds())
}

// CameOnline implements fleet.Measures.
func (m *Metrics) CameOnline(key fleet.GroupKey, took time.Duration) {
	m.groups.observe(starts, key, took.Seconds())
}

// StepRan implements fleet.Measures.
func (m *Metrics) StepRan(key fleet.GroupKey, took time.Duration) {
	m.groups.observe(steps, key, took.Seconds())
}

// Rebuilt implements fleet.Measures.
func (m *Metrics) Rebuilt(took time.Duration) { m.rebuilt.WithLabelValues().Observe(took.Seconds()) }

// Lived implements registrar.Measures.
func (m *Metrics) Lived(key fleet.GroupKey, took time.Duration) {
	m.groups.observe(lives, key, took.Seconds())
}

// Ran implements registrar.Measures.
func (m *Metrics) Ran(key fleet.GroupKey, steps uint32) {
	m.groups.observe(took, key, float64(steps))
}

package controlplane_test

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
	"bitbucket-runner-scaler/externalscaler/status"
	"bitbucket-runner-scaler/externalscaler/testbed"
	"bitbucket-runner-scaler/externalscaler/testbed/inprocess"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// world is a control plane with all its defaults, the emulator, KEDA's arithmetic and
// pods, on the virtual clock of a synctest bubble: an hour takes seconds. Nothing
// in it uses the network.
type world struct {
	t       *testing.T
	server  *emulator.Server
	cluster *testbed.Cluster
	config  controlplane.Config
	begun   time.Time
	ctx     context.Context //nolint:containedctx // the life of the world
	all     sync.WaitGroup
	stop    func() // ends the control plane
	// polling is the ScaledJobs' pollingInterval. The default is that of KEDA.
	polling time.Duration

	mu sync.Mutex
	*process
	// oldSidecars report only the UUIDs of steps.
	oldSidecars bool
	// lives are what the pods do that are started for each group.
	lives map[string]life
	// stale counts, per group, KEDA's calls that got no number after the first minute.
	stale map[string]int
	// created and registered are when the Jobs of each group were created and their
	// runners registered, since the world began.
	created, registered map[string][]time.Duration
	// refusals are the errors that sidecars got.
	refusals []string
}

// process is a control plane and the connection to it.
type process struct {
	plane   *controlplane.ControlPlane
	keda    pb.ExternalScalerClient
	runners runnerv1.RunnerServiceClient
	http    *http.Client // of the port of the API
}

// virtually runs a test in a world with these workspaces, w0 and so on.
func virtually(t *testing.T, workspaces int, test func(w *world), change ...func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := emulator.New(emulator.Options{Workspaces: workspacesOf(workspaces)})
		ctx, cancel := context.WithCancel(context.Background())
		w := &world{
			t: t, server: server, cluster: testbed.NewCluster(), begun: time.Now(), ctx: ctx, polling: 30 * time.Second,
			lives: map[string]life{}, stale: map[string]int{}, created: map[string][]time.Duration{}, registered: map[string][]time.Duration{},
			config: controlplane.Config{
				Owner: scope.OwnerLabel("virtual", "kube-system", "virtual", ""), HourlyBudget: 1000, Logger: zap.NewNop(),
				Bitbucket: bitbucket.Config{BaseURL: bitbucketURL, OAuthURL: bitbucketURL + "/site/oauth2/access_token", Transport: inprocess.Transport{Handler: server}},
				Usage:     &memoryUsage{},
				Lookup: func(name string) (string, bool) {
					value, ok := map[string]string{
						"BITBUCKET_OAUTH_CLIENT_ID": emulator.OAuthClientID, "BITBUCKET_OAUTH_CLIENT_SECRET": emulator.OAuthClientSecret,
					}[name]
					return value, ok
				},
			},
		}
		w.config.Cluster = w.cluster
		for _, apply := range change {
			apply(w)
		}
		w.start()
		test(w)
		cancel()
		w.stop()
		w.all.Wait()
		server.Close()
	})
}

// memoryUsage is a UsageStore.
type memoryUsage struct {
	mu   sync.Mutex
	kept map[string]bitbucket.Usage
}

func (m *memoryUsage) LoadUsage(context.Context) (map[string]bitbucket.Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept, nil
}

func (m *memoryUsage) SaveUsage(_ context.Context, usage map[string]bitbucket.Usage) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = usage
	return nil
}

// start starts a control plane in place of the one before.
func (w *world) start() {
	plane, err := controlplane.New(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	grpcListener, httpListener := bufconn.Listen(1<<20), bufconn.Listen(1<<10)
	conn, err := grpc.NewClient("passthrough:///scaler", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return grpcListener.DialContext(ctx) }))
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.process = &process{
		plane: plane, keda: pb.NewExternalScalerClient(conn), runners: runnerv1.NewRunnerServiceClient(conn),
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return httpListener.DialContext(ctx) }}},
	}
	w.mu.Unlock()
	w.cluster.Changed = plane.Changed
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- plane.Run(ctx, grpcListener, httpListener) }()
	w.stop = func() {
		if err := conn.Close(); err != nil {
			w.t.Error(err)
		}
		w.current().http.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	}
}

// current is the process that runs now.
func (w *world) current() *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.process
}

// restart is a new process: it knows only what is kept.
func (w *world) restart() {
	w.stop()
	w.start()
}

// after waits until a time since the beginning.
func (w *world) after(d time.Duration) { sleep(w.ctx, d-time.Since(w.begun)) }

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// apply creates a group in a workspace, which KEDA polls. run is the life of its pods.
// It may be nil if KEDA must create no Job.
func (w *world) apply(name, workspace string, settings map[string]string, run life) fleet.ScaledJob {
	all := map[string]string{"workspace": workspace, "labels": labelOf(name)}
	for key, value := range settings {
		all[key] = value
	}
	w.live(name, run)
	group := w.cluster.Apply(fleet.GroupKey{Namespace: "ns", Name: name}, all)
	group = w.cluster.Change(group.UID, "1", nil) // the first generation
	applied := time.Now()
	w.all.Go(func() {
		for sleep(w.ctx, w.polling) {
			w.poll(group.UID, applied)
		}
	})
	return group
}

// labelOf is the label that steps for a group have.
func labelOf(group string) string { return strings.ReplaceAll(group, "-", ".") }

// live sets the life of the pods that are started for a group from now on.
func (w *world) live(name string, run life) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lives[name] = run
}

// poll does what KEDA does at each polling interval.
func (w *world) poll(uid string, applied time.Time) {
	groups := w.cluster.ScaledJobs()
	group := groups[slices.IndexFunc(groups, func(s fleet.ScaledJob) bool { return s.UID == uid })]
	answer, err := w.current().keda.GetMetrics(w.ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref(group)})
	w.mu.Lock()
	run := w.lives[group.Name]
	if err != nil && time.Since(applied) > time.Minute {
		w.stale[group.Name]++
	}
	w.mu.Unlock()
	if err != nil || run == nil {
		return
	}
	metric := float64(answer.GetMetricValues()[0].GetMetricValue())
	for range testbed.Arithmetic(metric, 1, 100, len(w.cluster.JobsOf(uid))) {
		w.startPod(group, run)
	}
}

// forgive forgets that a group was stale, or that any group was.
func (w *world) forgive(groups ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(groups) == 0 {
		clear(w.stale)
	}
	for _, name := range groups {
		delete(w.stale, name)
	}
}

// note notes that something has happened for a group.
func (w *world) note(times map[string][]time.Duration, group string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	times[group] = append(times[group], time.Since(w.begun))
}

// times returns when something happened for a group.
func (w *world) times(of map[string][]time.Duration, group string) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(of[group])
}

// shown is a group as /status shows it.
func (w *world) shown(name string) status.Group {
	for _, group := range w.current().plane.Status().Groups() {
		if group.Name == name {
			return group
		}
	}
	return status.Group{}
}

// events returns the Events on a group with this reason.
func (w *world) events(group, reason string) []testbed.Event {
	return slices.DeleteFunc(w.cluster.EventsSeen(), func(e testbed.Event) bool { return e.Group.Name != group || e.Reason != reason })
}

package controlplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/bitbucket/emulator/standin"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
	"bitbucket-runner-scaler/externalscaler/testbed"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// world is a control plane with all its defaults, the emulator, KEDA's arithmetic and
// pods, on the virtual clock of a synctest bubble: an hour takes about a second. Nothing
// in it uses the network.
type world struct {
	t         *testing.T
	bitbucket inProcess
	cluster   *testbed.Cluster
	config    controlplane.Config
	ctx       context.Context //nolint:containedctx // the life of the world
	all       sync.WaitGroup
	stop      func() // ends the control plane
	// polling is the ScaledJobs' pollingInterval. The default is that of KEDA.
	polling time.Duration

	mu sync.Mutex
	*process
	// stale counts, per group, KEDA's calls that got no number after the first minute.
	stale map[string]int
}

// process is a control plane and the connection to it.
type process struct {
	plane   *controlplane.ControlPlane
	keda    pb.ExternalScalerClient
	runners runnerv1.RunnerServiceClient
}

const bitbucketURL = "http://bitbucket.test"

// inProcess sends requests to a handler of this process.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	defer func() {
		if recovered := recover(); recovered != nil { // how a handler drops a connection
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	served := req.Clone(req.Context())
	served.Host = req.URL.Host
	if served.Body == nil {
		served.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	recorder.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	p.handler.ServeHTTP(recorder, served)
	return recorder.Result(), nil
}

// virtually runs a test in a world with these workspaces, w0 and so on.
func virtually(t *testing.T, workspaces int, test func(w *world), change ...func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		options := emulator.Options{}
		for i := range workspaces {
			uuid := "{00000000-0000-4000-8000-" + strconv.Itoa(100_000_000_000+i) + "}"
			repository := "{10000000-0000-4000-8000-" + strconv.Itoa(100_000_000_000+i) + "}"
			options.Workspaces = append(options.Workspaces, emulator.Workspace{
				UUID: uuid, Slug: "w" + strconv.Itoa(i), Repositories: []emulator.Repository{{UUID: repository, Slug: "app"}},
			})
		}
		server := emulator.New(options)
		ctx, cancel := context.WithCancel(context.Background())
		w := &world{
			t: t, bitbucket: inProcess{server}, cluster: testbed.NewCluster(), ctx: ctx,
			polling: 30 * time.Second, stale: map[string]int{},
			config: controlplane.Config{
				Owner: scope.OwnerLabel("virtual", "kube-system", "virtual"), HourlyBudget: 1000, Logger: zap.NewNop(),
				Bitbucket: bitbucket.Config{BaseURL: bitbucketURL, OAuthURL: bitbucketURL + "/site/oauth2/access_token", Transport: inProcess{server}},
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
	w.process = &process{plane: plane, keda: pb.NewExternalScalerClient(conn), runners: runnerv1.NewRunnerServiceClient(conn)}
	w.mu.Unlock()
	w.cluster.Changed = plane.Changed
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- plane.Run(ctx, grpcListener, httpListener) }()
	w.stop = func() {
		if err := conn.Close(); err != nil {
			w.t.Error(err)
		}
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

// restart is a new process: it knows only what is kept.
func (w *world) restart() {
	w.stop()
	w.start()
}

// apply creates a group in a workspace, which KEDA polls. run is the life of its pods.
// It may be nil if KEDA must create no Job.
func (w *world) apply(name, workspace string, settings map[string]string, run func(*virtualPod)) fleet.ScaledJob {
	all := map[string]string{"workspace": workspace, "labels": strings.ReplaceAll(name, "-", ".")}
	for key, value := range settings {
		all[key] = value
	}
	group := w.cluster.Apply(fleet.GroupKey{Namespace: "ns", Name: name}, all)
	w.all.Go(func() {
		applied := time.Now()
		for sleep(w.ctx, w.polling) {
			answer, err := w.current().keda.GetMetrics(w.ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref(group)})
			if err != nil {
				if time.Since(applied) > time.Minute {
					w.mu.Lock()
					w.stale[name]++
					w.mu.Unlock()
				}
				continue
			}
			if run == nil {
				continue
			}
			metric := float64(answer.GetMetricValues()[0].GetMetricValue())
			for range testbed.Arithmetic(metric, 1, 100, len(w.cluster.JobsOf(group.UID))) {
				w.startPod(group, run)
			}
		}
	})
	return group
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// virtualPod is a Job's pod.
type virtualPod struct {
	w     *world
	job   fleet.Job
	ctx   context.Context //nolint:containedctx // the life of the pod
	token string
}

func (w *world) startPod(group fleet.ScaledJob, run func(*virtualPod)) {
	job, token := w.cluster.CreateJob(group)
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(w.ctx, "authorization", "Bearer "+token))
	w.all.Go(func() {
		defer cancel()
		run(&virtualPod{w: w, job: job, ctx: ctx, token: token})
	})
}

// register registers the pod's runner as a sidecar does. It returns nil if the Job has to
// finish, or the world ends.
func (p *virtualPod) register() *runnerv1.Runner {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		response, err := p.w.current().runners.Register(p.ctx, &runnerv1.RegisterRequest{})
		if err == nil {
			return response.GetRunner()
		}
		delay := wait
		for _, detail := range grpcstatus.Convert(err).Details() {
			if info, ok := detail.(*errdetails.RetryInfo); ok {
				delay = info.GetRetryDelay().AsDuration()
			}
		}
		if !sleep(p.ctx, delay) {
			return nil
		}
	}
}

var (
	begins = regexp.MustCompile(`Getting step StepId\{.*stepUuid=(\{[^}]*\})\}`)
	ends   = regexp.MustCompile(`Completing step`)
)

// reports is the output of the stand-in runner, which is reported as the sidecar does.
type reports struct {
	p *virtualPod

	mu     sync.Mutex
	report *runnerv1.AttachRequest
	stream grpc.BidiStreamingClient[runnerv1.AttachRequest, runnerv1.AttachResponse] // nil while there is none
}

func (r *reports) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch found := begins.FindSubmatch(line); {
	case found != nil:
		r.report.State, r.report.StepUuid = runnerv1.RunnerState_RUNNER_STATE_BUSY, string(found[1])
		r.report.StepsBegun++
	case ends.Match(line), bytes.Contains(line, []byte(`"ONLINE"`)):
		r.report.State, r.report.StepUuid = runnerv1.RunnerState_RUNNER_STATE_IDLE, ""
	default:
		return len(line), nil
	}
	if r.stream != nil {
		_ = r.stream.Send(r.report) // the next stream begins with the report
	}
	return len(line), nil
}

// attach reports until the control plane orders a stop, or ctx ends.
func (r *reports) attach(ctx context.Context) {
	for ; ctx.Err() == nil; sleep(ctx, time.Second) {
		stream, err := r.p.w.current().runners.Attach(ctx)
		if err != nil {
			continue
		}
		r.mu.Lock()
		r.stream = stream
		_ = stream.Send(r.report)
		r.mu.Unlock()
		for err == nil {
			var order *runnerv1.AttachResponse
			if order, err = stream.Recv(); order.GetStop() != nil {
				return
			}
		}
	}
}

// works is the life of a pod whose runner works until it is told to stop.
func works(p *virtualPod) {
	defer func() { p.w.cluster.FinishJob(p.job.UID, true) }()
	runner := p.register()
	if runner == nil {
		return
	}
	told := &reports{p: p, report: &runnerv1.AttachRequest{
		RunnerUuid: runner.GetUuid(), Place: runner.GetPlace(), State: runnerv1.RunnerState_RUNNER_STATE_STARTING,
	}}
	ctx, cancel := context.WithCancel(p.ctx)
	p.w.all.Go(func() {
		defer cancel()
		told.attach(ctx)
	})
	environment := runner.GetEnvironment()
	config := standin.FromEnvironment(func(name string) (string, bool) { value, ok := environment[name]; return value, ok })
	config.TokenEndpoint = bitbucketURL + "/oauth/token"
	config.Startup, config.Heartbeat, config.Poll = 20*time.Second, 30*time.Second, 30*time.Second
	config.Transport = p.w.bitbucket
	_ = standin.Run(ctx, config, told)
	cancel()
	p.end(runner)
}

// crashes is the life of a pod whose runner ends at once.
func crashes(p *virtualPod) {
	defer func() { p.w.cluster.FinishJob(p.job.UID, false) }()
	if runner := p.register(); runner != nil && sleep(p.ctx, 3*time.Second) {
		p.end(runner)
	}
}

func (p *virtualPod) end(runner *runnerv1.Runner) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 20*time.Second)
	defer cancel()
	_, _ = p.w.current().runners.Deregister(ctx, &runnerv1.DeregisterRequest{RunnerUuid: runner.GetUuid()}) // the reaper does what is left
}

// control calls a control of the emulator.
func (w *world) control(method, path string, in, out any) {
	w.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, bitbucketURL+"/_emulator"+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := w.bitbucket.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode > 299 {
		w.t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) faults(rules ...emulator.FaultRule) {
	w.t.Helper()
	w.control(http.MethodPost, "/faults", map[string]any{"rules": append([]emulator.FaultRule{}, rules...)}, nil)
}

func (w *world) state() (state emulator.State) {
	w.t.Helper()
	w.control(http.MethodGet, "/state", nil, &state)
	return state
}

// steps queues a step for a group at these intervals, until the world ends.
func (w *world) steps(workspace, label string, every, duration time.Duration) {
	w.all.Go(func() {
		for sleep(w.ctx, every) {
			w.control(http.MethodPost, "/steps", emulator.StepRequest{
				Workspace: workspace, Repository: "app", Labels: []string{"self.hosted", "linux", label}, Duration: duration.String(), Count: 1,
			}, nil)
		}
	})
}

// calls returns the calls so far, and how many of them were lists.
func (w *world) calls() (all, lists int) {
	for route, n := range w.state().Counters.Calls {
		all += n
		if strings.HasPrefix(route, "GET ") && strings.HasSuffix(route, "/runners") {
			lists += n
		}
	}
	return all, lists
}

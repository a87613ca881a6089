package controlplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
	"bitbucket-runner-scaler/externalscaler/testbed"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// The times of a simulation, apart from the scaler's defaults.
const (
	kedaInterval = 30 * time.Second
	// podStart is from the creation of a Job to its sidecar's first call, runnerStart
	// from the registration to the runner's first connection.
	podStart    = 3 * time.Second
	runnerStart = 15 * time.Second
)

// simulation is a real control plane with the defaults, the emulator, KEDA and sidecars on
// the virtual clock of a bubble of testing/synctest. No call leaves the process.
type simulation struct {
	t       *testing.T
	cluster *testbed.Cluster
	server  *emulator.Server
	plane   *controlplane.ControlPlane
	keda    pb.ExternalScalerClient
	runners runnerv1.RunnerServiceClient
	begun   time.Time

	ctx  context.Context //nolint:containedctx // the life of the simulation
	work sync.WaitGroup
	mu   sync.Mutex
	// broken are the groups whose runners exit at once.
	broken map[string]bool
	// created and registered are when the Jobs of each group were created and their
	// runners registered, since the beginning.
	created, registered map[string][]time.Duration
	// refusals are the errors that sidecars got.
	refusals []string
	// online are the pods whose runners are online.
	online map[string][]*simulatedPod
}

// simulatedPod is a pod whose runner is online.
type simulatedPod struct {
	uuid  string
	place *runnerv1.Place
	// states are those that are to be reported.
	states chan runnerv1.RunnerState
}

// RoundTrip implements http.RoundTripper: the emulator answers without a network.
func (s *simulation) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.Host, r.RequestURI = r.URL.Host, r.URL.RequestURI()
	answer := httptest.NewRecorder()
	s.server.ServeHTTP(answer, r)
	return answer.Result(), nil
}

const simulatedBitbucket = "http://127.0.0.1:7990"

// simulate runs do in a simulation. Call it in a bubble.
func simulate(t *testing.T, log *zap.Logger, do func(*simulation)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &simulation{
		t: t, ctx: ctx, cluster: testbed.NewCluster(), server: emulator.New(emulator.Options{}), begun: time.Now(),
		broken: map[string]bool{}, created: map[string][]time.Duration{}, registered: map[string][]time.Duration{}, online: map[string][]*simulatedPod{},
	}
	plane, err := controlplane.New(controlplane.Config{
		Owner: scope.OwnerLabel("testbed", "kube-system", "testbed"), Cluster: s.cluster, HourlyBudget: 1000,
		Bitbucket: bitbucket.Config{BaseURL: simulatedBitbucket, OAuthURL: simulatedBitbucket + "/site/oauth2/access_token", Transport: s},
		Lookup: func(name string) (string, bool) {
			value, ok := map[string]string{"BITBUCKET_OAUTH_CLIENT_ID": emulator.OAuthClientID, "BITBUCKET_OAUTH_CLIENT_SECRET": emulator.OAuthClientSecret}[name]
			return value, ok
		},
		Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.plane, s.cluster.Changed = plane, plane.Changed
	grpcListener, httpListener := bufconn.Listen(1<<20), bufconn.Listen(1<<10)
	conn, err := grpc.NewClient("passthrough:///scaler", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return grpcListener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	s.keda, s.runners = pb.NewExternalScalerClient(conn), runnerv1.NewRunnerServiceClient(conn)
	ended := make(chan error, 1)
	go func() { ended <- plane.Run(ctx, grpcListener, httpListener) }()
	do(s)
	cancel()
	s.work.Wait()
	if err := errors.Join(conn.Close(), <-ended); err != nil {
		t.Error(err)
	}
	s.server.Close()
}

// apply creates a group, for which KEDA polls.
func (s *simulation) apply(name string, settings map[string]string) fleet.ScaledJob {
	all := map[string]string{"workspace": "acme", "labels": name}
	for key, value := range settings {
		all[key] = value
	}
	scaledJob := s.cluster.Apply(fleet.GroupKey{Namespace: "ns", Name: name}, all)
	scaledJob = s.cluster.Change(scaledJob.UID, "1", nil)
	s.work.Go(func() {
		for ; s.sleep(kedaInterval); s.poll(scaledJob.UID) {
		}
	})
	return scaledJob
}

// poll does what KEDA does at each polling interval.
func (s *simulation) poll(uid string) {
	var group fleet.ScaledJob
	for _, scaledJob := range s.cluster.ScaledJobs() {
		if scaledJob.UID == uid {
			group = scaledJob
		}
	}
	answer, err := s.keda.GetMetrics(s.ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref(group)})
	if err != nil {
		return // as KEDA: no Job is created
	}
	metric := answer.GetMetricValues()[0].GetMetricValueFloat()
	for range testbed.Arithmetic(metric, 1, 100, len(s.cluster.JobsOf(uid))) {
		s.note(s.created, group.Name)
		job, token := s.cluster.CreateJob(group)
		s.cluster.Schedule(job.UID, "node")
		s.work.Go(func() { s.run(group.Name, job, token) })
	}
}

func (s *simulation) note(times map[string][]time.Duration, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	times[name] = append(times[name], time.Since(s.begun))
}

// sleep returns false once the simulation ends.
func (s *simulation) sleep(d time.Duration) bool {
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// run is the life of a pod.
func (s *simulation) run(name string, job fleet.Job, token string) {
	ctx := metadata.AppendToOutgoingContext(s.ctx, "authorization", "Bearer "+token)
	if !s.sleep(podStart) {
		return
	}
	response, ok := s.register(ctx)
	if !ok {
		return
	}
	if response.GetRunner() == nil {
		s.cluster.FinishJob(job.UID, true)
		return
	}
	s.note(s.registered, name)
	p := &simulatedPod{uuid: response.GetRunner().GetUuid(), place: response.GetRunner().GetPlace(), states: make(chan runnerv1.RunnerState, 1)}
	s.mu.Lock()
	broken := s.broken[name]
	s.mu.Unlock()
	if !broken {
		s.serve(ctx, name, p)
	}
	_, err := s.runners.Deregister(ctx, &runnerv1.DeregisterRequest{RunnerUuid: p.uuid})
	if err != nil {
		s.refused(err)
	}
	if !broken {
		s.cluster.FinishJob(job.UID, true)
	} else if s.sleep(time.Second) {
		s.cluster.FailJob(job.UID, fleet.Cause{Reason: "Error", Message: "container runner: exit code 127"})
	}
}

func (s *simulation) refused(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals = append(s.refusals, err.Error())
}

// register asks until the control plane has decided, as the sidecar does.
func (s *simulation) register(ctx context.Context) (*runnerv1.RegisterResponse, bool) {
	for {
		response, err := s.runners.Register(ctx, &runnerv1.RegisterRequest{})
		if err == nil {
			return response, true
		}
		s.refused(err)
		delay := 5 * time.Second
		for _, detail := range status.Convert(err).Details() {
			if info, ok := detail.(*errdetails.RetryInfo); ok {
				delay = min(max(info.GetRetryDelay().AsDuration(), time.Second), 5*time.Minute)
			}
		}
		if !s.sleep(delay) {
			return nil, false
		}
	}
}

// serve keeps a runner online until it is told to stop. The control plane ends each
// stream after some minutes, and the next one begins with the current state.
func (s *simulation) serve(ctx context.Context, name string, p *simulatedPod) {
	begin := time.AfterFunc(runnerStart, func() {
		s.control(emulator.ActionOnline, p)
		s.report(p, runnerv1.RunnerState_RUNNER_STATE_IDLE)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.online[name] = append(s.online[name], p)
	})
	defer begin.Stop()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.online[name] = slices.DeleteFunc(s.online[name], func(other *simulatedPod) bool { return other == p })
	}()
	for state := runnerv1.RunnerState_RUNNER_STATE_STARTING; ; {
		var stopped bool
		if state, stopped = s.attach(ctx, p, state); stopped || !s.sleep(time.Second) {
			return
		}
	}
}

// attach serves one stream. It returns the last state, and whether the runner has to stop.
func (s *simulation) attach(ctx context.Context, p *simulatedPod, state runnerv1.RunnerState) (last runnerv1.RunnerState, stopped bool) {
	stream, err := s.runners.Attach(ctx)
	if err != nil {
		return state, false
	}
	ended := make(chan bool, 1)
	go func() {
		for {
			order, err := stream.Recv()
			if err != nil || order.GetStop() != nil {
				ended <- err == nil
				return
			}
		}
	}()
	for {
		_ = stream.Send(&runnerv1.AttachRequest{RunnerUuid: p.uuid, State: state, Place: p.place}) // Recv returns its error
		select {
		case state = <-p.states:
		case stopped := <-ended:
			return state, stopped
		}
	}
}

func (s *simulation) report(p *simulatedPod, state runnerv1.RunnerState) {
	select {
	case p.states <- state:
	case <-s.ctx.Done():
	}
}

// control sets the state of a pod's runner at Bitbucket.
func (s *simulation) control(action string, p *simulatedPod) {
	s.call(http.MethodPost, "/_emulator/runners/"+p.uuid+"/"+action, nil, nil)
}

// call calls a control of the emulator.
func (s *simulation) call(method, path string, in, out any) {
	s.t.Helper()
	body := []byte{}
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			s.t.Fatal(err)
		}
	}
	request, err := http.NewRequestWithContext(s.t.Context(), method, simulatedBitbucket+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := s.RoundTrip(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode >= http.StatusMultipleChoices {
		s.t.Errorf("%s %s: status %d", method, path, answer.StatusCode)
		return
	}
	if out != nil {
		if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
			s.t.Fatal(err)
		}
	}
}

// calls counts the calls to Bitbucket.
func (s *simulation) calls() (n int) {
	var state emulator.State
	s.call(http.MethodGet, "/_emulator/state", nil, &state)
	for _, calls := range state.Counters.Calls {
		n += calls
	}
	return n
}

// runners are the pods of a group whose runners are online.
func (s *simulation) onlineOf(name string) []*simulatedPod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*simulatedPod(nil), s.online[name]...)
}

// step gives every online runner of a group a step of that length.
func (s *simulation) step(name string, length time.Duration) {
	pods := s.onlineOf(name)
	for _, p := range pods {
		s.control(emulator.ActionStep, p)
		s.report(p, runnerv1.RunnerState_RUNNER_STATE_BUSY)
	}
	s.work.Go(func() {
		if !s.sleep(length) {
			return
		}
		for _, p := range pods {
			s.control(emulator.ActionIdle, p)
			s.report(p, runnerv1.RunnerState_RUNNER_STATE_IDLE)
		}
	})
}

// times returns a copy of the times of a group.
func (s *simulation) times(of map[string][]time.Duration, name string) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Duration(nil), of[name]...)
}

// shown is a group as /status shows it.
func (s *simulation) shown(name string) (target int, reason string) {
	for _, group := range s.plane.Status().Groups() {
		if group.Name == name {
			return group.Target, group.Reason
		}
	}
	return 0, ""
}

// after waits until a time since the beginning.
func (s *simulation) after(d time.Duration) { s.sleep(d - time.Since(s.begun)) }

package controlplane_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status"
	"bitbucket-runner-scaler/externalscaler/testbed"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// patience bounds every wait for a condition.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// plane is a real control plane that uses the emulator and Kubernetes in memory. The test
// acts as KEDA and as the sidecars.
type plane struct {
	*testbed.Bed
	t       *testing.T
	keda    pb.ExternalScalerClient
	runners runnerv1.RunnerServiceClient
	group   fleet.ScaledJob
}

func quick() controlplane.Config {
	return controlplane.Config{
		PollInterval: 200 * time.Millisecond, MaxStaleness: time.Hour, WriteSettle: 300 * time.Millisecond,
		OrphanGrace: 500 * time.Millisecond, StepAssignDelay: 300 * time.Millisecond, ReaperInterval: 50 * time.Millisecond,
	}
}

// start starts a plane with one group that has these settings.
func start(t *testing.T, config controlplane.Config, settings map[string]string) *plane {
	t.Helper()
	return startWith(t, emulator.Options{RateLimit: 1 << 20}, config, settings)
}

// startWith is start with these emulator options.
func startWith(t *testing.T, options emulator.Options, config controlplane.Config, settings map[string]string) *plane {
	t.Helper()
	t.Parallel() // the test mostly waits
	return startIn(t, testbed.Config{Emulator: options}, config, settings)
}

// startIn is start with this test bed.
func startIn(t *testing.T, beds testbed.Config, config controlplane.Config, settings map[string]string) *plane {
	t.Helper()
	beds.Dir, beds.ControlPlane, beds.KEDAInterval, beds.Logger = t.TempDir(), config, time.Hour, zaptest.NewLogger(t)
	bed, err := testbed.Start(t.Context(), beds)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(bed.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	p := &plane{Bed: bed, t: t, keda: pb.NewExternalScalerClient(conn), runners: runnerv1.NewRunnerServiceClient(conn)}
	p.group = p.apply("builds", settings)
	if settings["workspace"] == "" {
		p.until("the first list", func() bool { _, err := p.metric(p.group); return err == nil })
	}
	return p
}

func (p *plane) apply(name string, settings map[string]string) fleet.ScaledJob {
	all := map[string]string{"workspace": "acme", "labels": name, "coolDown": "0s"}
	for key, value := range settings {
		all[key] = value
	}
	return p.Cluster.Apply(fleet.GroupKey{Namespace: "ns", Name: name}, all)
}

// ref returns KEDA's reference to a group.
func ref(s fleet.ScaledJob) *pb.ScaledObjectRef {
	return &pb.ScaledObjectRef{Namespace: s.Namespace, Name: s.Name, ScalerMetadata: s.Metadata}
}

// metric calls GetMetrics as KEDA does.
func (p *plane) metric(s fleet.ScaledJob) (int64, error) {
	answer, err := p.keda.GetMetrics(p.t.Context(), &pb.GetMetricsRequest{ScaledObjectRef: ref(s)})
	if err != nil {
		return 0, err
	}
	return answer.GetMetricValues()[0].GetMetricValue(), nil
}

// until waits for a condition.
func (p *plane) until(what string, done func() bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			p.t.Fatalf("waited for %s; bitbucket: %+v; groups: %+v", what, p.state(), p.Groups())
		case <-ticker.C:
		}
	}
}

func (p *plane) state() emulator.State {
	p.t.Helper()
	state, err := p.Control.State(context.WithoutCancel(p.t.Context()))
	if err != nil {
		p.t.Fatal(err)
	}
	return state
}

func (p *plane) faults(rules ...emulator.FaultRule) {
	p.t.Helper()
	if err := p.Control.SetFaults(p.t.Context(), rules); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plane) shown(name string) status.Group {
	for _, g := range p.Groups() {
		if g.Name == name {
			return g
		}
	}
	return status.Group{}
}

// pod is a Job's pod. The test acts as its sidecar.
type pod struct {
	p     *plane
	job   fleet.Job
	token string
	uuid  string // of its runner
	place *runnerv1.Place
	// terminating is reported for the pod.
	terminating bool
	// begun is the reported number of steps that its runner has begun.
	begun uint32
	// unrecognized is reported if the runner's output is not recognized.
	unrecognized bool
	// drained is closed when the sidecar receives a drain order.
	drained chan struct{}
	once    sync.Once
	// stopped is closed when the sidecar receives a stop order.
	stopped chan struct{}
	stream  grpc.BidiStreamingClient[runnerv1.AttachRequest, runnerv1.AttachResponse]
	cancel  context.CancelFunc
}

func (p *plane) pod(owner fleet.ScaledJob) *pod {
	job, token := p.Cluster.CreateJob(owner)
	return &pod{p: p, job: job, token: token, stopped: make(chan struct{}), drained: make(chan struct{})}
}

func (d *pod) ctx() context.Context {
	return metadata.AppendToOutgoingContext(d.p.t.Context(), "authorization", "Bearer "+d.token)
}

func (d *pod) register() (*runnerv1.RegisterResponse, error) {
	ctx, cancel := context.WithTimeout(d.ctx(), patience)
	defer cancel()
	response, err := d.p.runners.Register(ctx, &runnerv1.RegisterRequest{})
	if uuid := response.GetRunner().GetUuid(); uuid != "" {
		d.uuid, d.place = uuid, response.GetRunner().GetPlace()
	}
	return response, err
}

// attach opens the stream and reports a state.
func (d *pod) attach(state runnerv1.RunnerState) {
	d.p.t.Helper()
	ctx, cancel := context.WithCancel(d.ctx())
	stream, err := d.p.runners.Attach(ctx)
	if err != nil {
		d.p.t.Fatal(err)
	}
	d.stream, d.cancel = stream, cancel
	d.p.t.Cleanup(cancel)
	go func() {
		for {
			order, err := stream.Recv()
			if err != nil {
				return
			}
			if order.GetDrain() != nil {
				d.once.Do(func() { close(d.drained) })
			}
			if order.GetStop() != nil {
				close(d.stopped)
				return
			}
		}
	}()
	d.report(state, "")
}

func (d *pod) report(state runnerv1.RunnerState, step string) {
	d.p.t.Helper()
	report := &runnerv1.AttachRequest{
		RunnerUuid: d.uuid, State: state, StepUuid: step, Place: d.place,
		Terminating: d.terminating, StepsBegun: d.begun, UnrecognizedOutput: d.unrecognized,
	}
	if err := d.stream.Send(report); err != nil {
		d.p.t.Fatal(err)
	}
}

// online registers the pod's runner, brings it online and attaches.
func (d *pod) online() *pod {
	d.p.t.Helper()
	if _, err := d.register(); err != nil {
		d.p.t.Fatal(err)
	}
	d.attach(runnerv1.RunnerState_RUNNER_STATE_STARTING)
	d.set("online", "")
	d.report(runnerv1.RunnerState_RUNNER_STATE_IDLE, "")
	return d
}

func (d *pod) set(action, step string) {
	d.p.t.Helper()
	if err := d.p.Control.SetRunner(d.p.t.Context(), d.uuid, action, step); err != nil {
		d.p.t.Fatal(err)
	}
}

// stopOrdered reports whether the sidecar has received a stop order.
func (d *pod) stopOrdered() bool {
	select {
	case <-d.stopped:
		return true
	default:
		return false
	}
}

// status returns the status of the pod's runner at Bitbucket, or "" if there is none.
func (d *pod) status() string {
	for _, r := range d.p.state().Runners {
		if r.UUID == d.uuid {
			return r.Status
		}
	}
	return ""
}

package controlplane_test

import (
	"bytes"
	"context"
	"regexp"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"bitbucket-runner-scaler/bitbucket/emulator/standin"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/testbed/inprocess"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// The times of a pod. podStart is from the creation of its Job to its sidecar's first
// call, and runnerStart from the registration to the runner's first connection.
const (
	podStart    = 3 * time.Second
	runnerStart = 20 * time.Second
)

// virtualPod is a Job's pod.
type virtualPod struct {
	w     *world
	group string
	job   fleet.Job
	ctx   context.Context //nolint:containedctx // the life of the pod
}

// life is what a pod does from the start of its sidecar until its Job has finished.
type life func(*virtualPod)

func (w *world) startPod(group fleet.ScaledJob, run life) {
	w.note(w.created, group.Name)
	job, token := w.cluster.CreateJob(group)
	w.cluster.Schedule(job.UID, "node")
	ctx := metadata.AppendToOutgoingContext(w.ctx, "authorization", "Bearer "+token)
	w.all.Go(func() {
		if sleep(ctx, podStart) {
			w.cluster.StartSidecar(job.UID)
			run(&virtualPod{w: w, group: group.Name, job: job, ctx: ctx})
		}
	})
}

// works is the life of a pod whose runner works until it is told to stop.
func works(p *virtualPod) {
	defer p.w.cluster.FinishJob(p.job.UID, true)
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
	p.w.cluster.StartRunner(p.job.UID)
	environment := runner.GetEnvironment()
	config := standin.FromEnvironment(func(name string) (string, bool) { value, ok := environment[name]; return value, ok })
	config.TokenEndpoint = bitbucketURL + "/oauth/token"
	config.Startup, config.Heartbeat, config.Poll = runnerStart, 30*time.Second, 30*time.Second
	config.Transport = inprocess.Transport{Handler: p.w.server}
	_ = standin.Run(ctx, config, told)
	cancel()
	p.deregister(runner)
}

// crashes is the life of a pod whose runner ends at once.
func crashes(p *virtualPod) {
	defer p.w.cluster.FinishJob(p.job.UID, false)
	if runner := p.register(); runner != nil && sleep(p.ctx, 3*time.Second) {
		p.deregister(runner)
	}
}

// register registers the pod's runner as a sidecar does. It returns nil if the Job has to
// finish, or the world ends.
func (p *virtualPod) register() *runnerv1.Runner {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		response, err := p.w.current().runners.Register(p.ctx, &runnerv1.RegisterRequest{})
		if err == nil {
			if response.GetRunner() != nil {
				p.w.note(p.w.registered, p.group)
			}
			return response.GetRunner()
		}
		p.refused(err)
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

func (p *virtualPod) deregister(runner *runnerv1.Runner) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 20*time.Second)
	defer cancel()
	if _, err := p.w.current().runners.Deregister(ctx, &runnerv1.DeregisterRequest{RunnerUuid: runner.GetUuid()}); err != nil {
		p.refused(err) // the reaper does what is left
	}
}

func (p *virtualPod) refused(err error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.refusals = append(p.w.refusals, err.Error())
}

var (
	begins = regexp.MustCompile(`Getting step StepId\{.*repositoryUuid=(\{[^}]*\}), pipelineUuid=(\{[^}]*\}), stepUuid=(\{[^}]*\})\}`)
	ends   = regexp.MustCompile(`Completing step with result Result\{status=([A-Z]+)`)
	online = []byte(`"ONLINE"`)
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
	begun, ended := begins.FindSubmatch(line), ends.FindSubmatch(line)
	switch {
	case begun != nil:
		r.report.State, r.report.StepUuid = runnerv1.RunnerState_RUNNER_STATE_BUSY, string(begun[3])
		if !r.p.w.oldSidecars {
			r.report.Step = &runnerv1.Step{RepositoryUuid: string(begun[1]), PipelineUuid: string(begun[2]), StepUuid: string(begun[3])}
		}
		r.report.StepsBegun++
	case ended != nil, bytes.Contains(line, online):
		r.report.State, r.report.StepUuid = runnerv1.RunnerState_RUNNER_STATE_IDLE, ""
		if r.report.GetStep() != nil {
			r.report.EndedStep = &runnerv1.EndedStep{Step: r.report.GetStep(), Result: string(ended[1])}
		}
		r.report.Step = nil
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

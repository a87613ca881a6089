package sidecar

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

const (
	online = `echo 'Updating runner status to "ONLINE" and checking for new steps assigned to the runner after 0 seconds and then every 30 seconds.'; `
	step   = `echo 'Getting step StepId{accountUuid={aaaaaaaa-1111-4111-8111-111111111111}, repositoryUuid={bb}, pipelineUuid={cc}, stepUuid={dddddddd-1111-4111-8111-111111111111}}.'; `
	stepID = "{dddddddd-1111-4111-8111-111111111111}"
	passed = `echo 'Completing step with result Result{status=PASSED, error=None}.'; `
	// forever keeps a shell, and a child of it, running.
	forever = `sleep 1000 & echo child $!; wait; wait; `
)

func TestARunnersLifeFromRegistrationToStop(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	e := startExec(t, dir, `echo "$RUNNER_UUID $HOME"; `+online+step+passed+forever)
	eventually(t, "the step is over", func() bool { return len(c.states(0)) == 4 })
	if diff := cmp.Diff([]string{"STARTING", "IDLE", "BUSY " + stepID, "IDLE"}, c.states(0)); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	second := startExec(t, dir, `echo "started with $OAUTH_CLIENT_SECRET"`)
	if code := second.wait(t); code == 0 || second.stdout.String() != "" {
		t.Errorf("a second client of the environment: exit code %d, output %q, want a refusal", code, second.stdout.String())
	}
	c.stop("surplus")
	if code := e.wait(t); code != 0 {
		t.Errorf("exit code %d after Stop, want 0: the Job completes", code)
	}
	if want := runnerUUID + " /of/the/runner\n"; !strings.HasPrefix(e.stdout.String(), want) {
		t.Errorf("the runner's environment: got %q, want %q first", e.stdout.String(), want)
	}
	eventually(t, "the runner is deregistered without SIGTERM", func() bool { _, _, n := c.counts(); return n == 1 })
	s.end(t)
	if diff := cmp.Diff([]string{"STOPPING", "ENDED"}, c.states(0)[4:]); diff != "" {
		t.Errorf("last states (-want +got):\n%s", diff)
	}
	registers, streams, deregisters := c.counts()
	if diff := cmp.Diff([]int{1, 1, 1}, []int{registers, streams, deregisters}); diff != "" {
		t.Errorf("registers, streams, deregisters (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{runnerUUID}, c.deregisters); diff != "" {
		t.Errorf("deregistered (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"Bearer the-token"}, c.tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
}

func TestFinishEndsTheJobWithoutARunner(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	c.onRegister = func(int) (*runnerv1.RegisterResponse, error) {
		return &runnerv1.RegisterResponse{Outcome: &runnerv1.RegisterResponse_Finish{Finish: &runnerv1.Finish{Reason: "one too many"}}}, nil
	}
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	e := startExec(t, dir, "echo started")
	if code := e.wait(t); code != 0 || e.stdout.String() != "" {
		t.Errorf("exit code %d, output %q, want 0 and nothing started", code, e.stdout.String())
	}
	s.end(t)
	if registers, streams, deregisters := c.counts(); registers != 1 || streams != 0 || deregisters != 0 {
		t.Errorf("%d registers, %d streams, %d deregisters, want 1, 0, 0", registers, streams, deregisters)
	}
}

func TestStopBeforeTheRunnerWasStartedMeansFinish(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	s := startSidecar(t, c, dir, nil)
	eventually(t, "the sidecar is attached", func() bool { return c.last(0) == "STARTING" })
	c.stop("surplus")
	eventually(t, "the runner is deregistered", func() bool { _, _, n := c.counts(); return n == 1 })
	e := startExec(t, dir, "echo started")
	if code := e.wait(t); code != 0 || e.stdout.String() != "" {
		t.Errorf("exit code %d, output %q, want 0 and nothing started", code, e.stdout.String())
	}
	s.end(t)
	if c.last(0) != "ENDED" {
		t.Errorf("last state %q, want ENDED", c.last(0))
	}
}

func TestRegistrationIsTriedAgainWhateverTheRefusal(t *testing.T) {
	for _, code := range []codes.Code{
		codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Unauthenticated, codes.NotFound,
		codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition, codes.Internal,
	} {
		t.Run(code.String(), func(t *testing.T) {
			c, dir := startControlPlane(t), folder(t)
			c.onRegister = func(try int) (*runnerv1.RegisterResponse, error) {
				if try < 4 {
					return nil, status.Error(code, "not now")
				}
				return aRunner(), nil
			}
			s := startSidecar(t, c, dir, nil)
			s.ready(t)
			s.end(t)
			if registers, _, deregisters := c.counts(); registers != 4 || deregisters != 1 {
				t.Errorf("%d registers and %d deregisters, want 4 and 1", registers, deregisters)
			}
		})
	}
}

func TestTheDelayThatTheControlPlaneAsksForIsKept(t *testing.T) {
	const asked = 200 * time.Millisecond
	c, dir := startControlPlane(t), folder(t)
	c.onRegister = func(try int) (*runnerv1.RegisterResponse, error) {
		if try > 1 {
			return aRunner(), nil
		}
		answer, err := status.New(codes.ResourceExhausted, "no room").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(asked)})
		if err != nil {
			return nil, err
		}
		return nil, answer.Err()
	}
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	if waited := c.registers[1].Sub(c.registers[0]); waited < asked {
		t.Errorf("asked again after %s, want %s at least", waited, asked)
	}
}

func TestRefusalsThatTimeAloneRarelyMendsAreRetriedSlowly(t *testing.T) {
	s := Sidecar{pace: defaultPace()}
	for name, tc := range map[string]struct {
		code     codes.Code
		since    time.Duration
		min, max time.Duration
	}{
		"out of reach":            {codes.Unavailable, time.Hour, 250 * time.Millisecond, 500 * time.Millisecond},
		"token not yet valid":     {codes.Unauthenticated, time.Minute, 250 * time.Millisecond, 500 * time.Millisecond},
		"token refused for long":  {codes.Unauthenticated, time.Hour, 30 * time.Second, 33 * time.Second},
		"pod unknown for long":    {codes.NotFound, time.Hour, 30 * time.Second, 33 * time.Second},
		"namespace not permitted": {codes.PermissionDenied, 0, 30 * time.Second, 33 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			wait := backoff{base: s.pace.retryBase, maximum: s.pace.retryMax}
			if got := s.retryDelay(status.Error(tc.code, "no"), &wait, tc.since); got < tc.min || got > tc.max {
				t.Errorf("delay %s, want %s to %s", got, tc.min, tc.max)
			}
		})
	}
}

func TestARestartBeforeHandingOutRegistersAnew(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	first := startProgram(t, "run", dir, c.address)
	eventually(t, "the first sidecar is attached", func() bool { return c.last(0) == "STARTING" })
	_ = first.cmd.Process.Kill()
	_ = first.cmd.Wait()
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	if registers, _, _ := c.counts(); registers != 2 {
		t.Errorf("%d registers, want 2", registers)
	}
}

func TestExecSurvivesTheSidecarsRestart(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	first := startProgram(t, "run", dir, c.address)
	eventually(t, "the first sidecar is ready", func() bool { return Ready(t.Context(), dir) == nil })
	e := startExec(t, dir, online+step+forever)
	eventually(t, "the step runs", func() bool { return c.last(0) == "BUSY "+stepID })
	_ = first.cmd.Process.Kill() // as a crash would, without deregistering
	_ = first.cmd.Wait()
	if _, err := os.Stat(filepath.Join(dir, markerName)); err != nil {
		t.Fatalf("marker: %v", err)
	}
	s := startSidecar(t, c, dir, nil)
	eventually(t, "the state is told anew", func() bool { return c.last(1) == "BUSY "+stepID })
	if got := c.states(1)[0]; got != "UNKNOWN" && got != "BUSY "+stepID {
		t.Errorf("first state of the new sidecar: %q, want UNKNOWN or the step", got)
	}
	c.stop("surplus")
	if code := e.wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	eventually(t, "the runner is deregistered", func() bool { _, _, n := c.counts(); return n == 1 })
	s.end(t)
	if registers, _, _ := c.counts(); registers != 1 {
		t.Errorf("%d registers, want 1: the runner may be running", registers)
	}
}

func TestARestartAfterTheEndStillDeregisters(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeMarker(dir, marker{UUID: runnerUUID, Name: "pod", Ended: true}); err != nil {
		t.Fatal(err)
	}
	s := startSidecar(t, c, dir, nil)
	eventually(t, "the runner is deregistered", func() bool { _, _, n := c.counts(); return n == 1 })
	s.end(t)
	if registers, _, _ := c.counts(); registers != 0 || c.last(0) != "ENDED" {
		t.Errorf("%d registers and state %q, want 0 and ENDED", registers, c.last(0))
	}
}

func TestTheStreamIsOpenedAgainWithThePresentState(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	startExec(t, dir, online+forever)
	eventually(t, "the runner is idle", func() bool { return c.last(0) == "IDLE" })
	c.restart(t)
	eventually(t, "the present state is told", func() bool { return len(c.states(1)) > 0 })
	if got := c.states(1)[0]; got != "IDLE" {
		t.Errorf("first state of the new stream %q, want IDLE", got)
	}
}

func TestABrokenConnectionToExecIsNoEnd(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	e := startExec(t, dir, online+forever)
	eventually(t, "the runner is idle", func() bool { return c.last(0) == "IDLE" })
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait()
	endChildren(t, e)
	eventually(t, "the state is unknown", func() bool { return c.last(0) == "UNKNOWN" })
	if _, _, deregisters := c.counts(); deregisters != 0 {
		t.Error("deregistered although the runner may be running")
	}
	s.end(t)
	if _, _, deregisters := c.counts(); deregisters != 1 || c.last(0) != "ENDED" {
		t.Errorf("%d deregisters, last state %q, want 1 and ENDED: SIGTERM comes after the main container", deregisters, c.last(0))
	}
}

func TestSIGTERMDeregistersWithinItsBound(t *testing.T) {
	for name, tc := range map[string]struct {
		onDeregister func(ctx context.Context, try int) error
		want         int // tries, at least
	}{
		"the control plane hangs": {func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }, 2},
		"the control plane fails": {func(context.Context, int) error { return errors.New("no") }, 2},
		"a failure that passes": {func(_ context.Context, try int) error {
			if try == 1 {
				return status.Error(codes.Unavailable, "a moment")
			}
			return nil
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := startControlPlane(t), folder(t)
			c.onDeregister = tc.onDeregister
			s := startSidecar(t, c, dir, func(p *pace) { p.deregister, p.deregisterCall = time.Second, 300*time.Millisecond })
			s.ready(t)
			began := time.Now()
			s.end(t)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %s with a bound of 1s", took)
			}
			if _, _, deregisters := c.counts(); deregisters < tc.want {
				t.Errorf("%d tries, want %d at least", deregisters, tc.want)
			}
		})
	}
	if got := defaultPace().deregister; got != 20*time.Second {
		t.Errorf("the bound is %s by default, want 20s", got)
	}
}

func TestSIGTERMWaitsForALivingExec(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	e := startExec(t, dir, online+forever)
	eventually(t, "the runner is idle", func() bool { return c.last(0) == "IDLE" })
	s.sigterm()
	eventually(t, "the teardown is told", func() bool { return c.last(0) == "STOPPING" })
	if _, _, deregisters := c.counts(); deregisters != 0 {
		t.Error("deregistered before the runner had ended")
	}
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := e.wait(t); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d, want 143", code)
	}
	s.end(t)
	if _, _, deregisters := c.counts(); deregisters != 1 || c.last(0) != "ENDED" {
		t.Errorf("%d deregisters, last state %q, want 1 and ENDED", deregisters, c.last(0))
	}
}

func TestARegistrationWithoutAnAnswerIsDeregistered(t *testing.T) {
	for name, tc := range map[string]struct {
		code codes.Code
		want []string
	}{
		"may have had effect": {codes.Unavailable, []string{""}},
		"certainly had none":  {codes.PermissionDenied, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := startControlPlane(t), folder(t)
			c.onRegister = func(int) (*runnerv1.RegisterResponse, error) { return nil, status.Error(tc.code, "no") }
			s := startSidecar(t, c, dir, nil)
			eventually(t, "it has tried", func() bool { n, _, _ := c.counts(); return n > 0 })
			if err := Ready(t.Context(), dir); err == nil {
				t.Error("ready without a runner")
			}
			s.end(t)
			if diff := cmp.Diff(tc.want, c.deregisters); diff != "" {
				t.Errorf("deregistered (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAStandbysConnectionIsReplaced(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	looked := make(chan struct{})
	c.onRegister = func(try int) (*runnerv1.RegisterResponse, error) {
		if try == 1 {
			<-looked
			return nil, status.Error(codes.Unavailable, "standby")
		}
		return aRunner(), nil
	}
	s := startSidecar(t, c, dir, nil)
	s.link.mu.Lock()
	before := s.link.conn
	s.link.mu.Unlock()
	close(looked)
	s.ready(t)
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if s.link.conn == before {
		t.Error("the connection that answered Unavailable is still used")
	}
}

func TestTheBinaryIsInstalledForTheRunner(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	info, err := os.Stat(filepath.Join(dir, BinaryName))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Stat(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o755 || info.Size() != self.Size() {
		t.Errorf("mode %v and %d bytes, want 0755 and %d", info.Mode().Perm(), info.Size(), self.Size())
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	err := Config{ScalerAddress: "scaler", TLS: "auto", Dir: "run"}.Validate()
	for _, want := range []string{`scaler-address: "scaler"`, `tls: "auto"`, `token-file: ""`, `dir: "run"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to contain %s", err, want)
		}
	}
}

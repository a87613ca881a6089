package sidecar

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestARunnersLifeFromRegistrationToStop(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	e := sidecartest.StartExec(t, dir, `echo "$RUNNER_UUID $HOME"; `+sidecartest.Online+sidecartest.Step+sidecartest.Completed+sidecartest.Forever)
	sidecartest.Eventually(t, "the step is over", func() bool { return len(c.states(0)) == 4 })
	if diff := cmp.Diff([]string{"STARTING", "IDLE", "BUSY " + sidecartest.StepUUID, "IDLE"}, c.states(0)); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	step := &runnerv1.Step{RepositoryUuid: sidecartest.RepositoryUUID, PipelineUuid: sidecartest.PipelineUUID, StepUuid: sidecartest.StepUUID}
	if got := c.request(0, 2).GetStep(); !proto.Equal(got, step) {
		t.Errorf("the step of a busy runner: got %v, want %v", got, step)
	}
	if got, want := c.request(0, 3).GetEndedStep(), (&runnerv1.EndedStep{Step: step, Result: "PASSED"}); !proto.Equal(got, want) {
		t.Errorf("the step that has ended: got %v, want %v", got, want)
	}
	second := sidecartest.StartExec(t, dir, `echo "started with $OAUTH_CLIENT_SECRET"`)
	if code := second.ExitCode(t); code == 0 || second.Stdout.String() != "" {
		t.Errorf("a second client of the environment: exit code %d, output %q, want a refusal", code, second.Stdout.String())
	}
	c.stop("surplus")
	if code := e.ExitCode(t); code != 0 {
		t.Errorf("exit code %d after Stop, want 0: the Job completes", code)
	}
	if want := runnerUUID + " /of/the/runner\n"; !strings.HasPrefix(e.Stdout.String(), want) {
		t.Errorf("the runner's environment: got %q, want %q first", e.Stdout.String(), want)
	}
	sidecartest.Eventually(t, "the runner is deregistered without SIGTERM", func() bool { _, _, n := c.counts(); return n == 1 })
	s.end(t)
	if diff := cmp.Diff([]string{"STOPPING", "ENDED"}, c.states(0)[4:]); diff != "" {
		t.Errorf("last states (-want +got):\n%s", diff)
	}
	if got := c.request(0, 5).GetEndedStep(); got.GetResult() != "PASSED" {
		t.Errorf("the last report has the ended step %v, want it again, because the reports before may be lost", got)
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

func TestAJobThatHasToFinishStartsNoRunner(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	c.onRegister = func(int) (*runnerv1.RegisterResponse, error) {
		return &runnerv1.RegisterResponse{Outcome: &runnerv1.RegisterResponse_Finish{Finish: &runnerv1.Finish{Reason: "one too many"}}}, nil
	}
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	e := sidecartest.StartExec(t, dir, "echo started")
	if code := e.ExitCode(t); code != 0 || e.Stdout.String() != "" {
		t.Errorf("exit code %d, output %q, want 0 and nothing started", code, e.Stdout.String())
	}
	s.end(t)
	if registers, streams, deregisters := c.counts(); registers != 1 || streams != 0 || deregisters != 0 {
		t.Errorf("%d registers, %d streams, %d deregisters, want 1, 0, 0", registers, streams, deregisters)
	}
}

func TestStopBeforeTheStartStartsNoRunner(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	s := startSidecar(t, c, dir, nil)
	sidecartest.Eventually(t, "the sidecar is attached", func() bool { return c.last(0) == "STARTING" })
	c.stop("surplus")
	sidecartest.Eventually(t, "the runner is deregistered", func() bool { _, _, n := c.counts(); return n == 1 })
	e := sidecartest.StartExec(t, dir, "echo started")
	if code := e.ExitCode(t); code != 0 || e.Stdout.String() != "" {
		t.Errorf("exit code %d, output %q, want 0 and nothing started", code, e.Stdout.String())
	}
	s.end(t)
	if c.last(0) != "ENDED" {
		t.Errorf("last state %q, want ENDED", c.last(0))
	}
}

func TestARestartBeforeTheHandOutRegistersAgain(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	first := sidecartest.Start(t, "run", dir, c.address)
	sidecartest.Eventually(t, "the first sidecar is attached", func() bool { return c.last(0) == "STARTING" })
	first.Crash()
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	if registers, _, _ := c.counts(); registers != 2 {
		t.Errorf("%d registers, want 2", registers)
	}
}

func TestExecSurvivesTheSidecarsRestart(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	first := sidecartest.Start(t, "run", dir, c.address)
	sidecartest.Eventually(t, "the first sidecar is ready", func() bool { return Ready(t.Context(), dir, 0) == nil })
	e := sidecartest.StartExec(t, dir, sidecartest.Online+sidecartest.Step+sidecartest.Forever)
	sidecartest.Eventually(t, "the step runs", func() bool { return c.last(0) == "BUSY "+sidecartest.StepUUID })
	first.Crash()
	if _, err := os.Stat(filepath.Join(dir, markerName)); err != nil {
		t.Fatalf("marker: %v", err)
	}
	s := startSidecar(t, c, dir, nil)
	sidecartest.Eventually(t, "the state is reported again", func() bool { return c.last(1) == "BUSY "+sidecartest.StepUUID })
	if got := c.states(1)[0]; got != "UNKNOWN" && got != "BUSY "+sidecartest.StepUUID {
		t.Errorf("first state of the new sidecar: %q, want UNKNOWN or the step", got)
	}
	c.stop("surplus")
	if code := e.ExitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	sidecartest.Eventually(t, "the runner is deregistered", func() bool { _, _, n := c.counts(); return n == 1 })
	s.end(t)
	if registers, _, _ := c.counts(); registers != 1 {
		t.Errorf("%d registers, want 1: the runner may be running", registers)
	}
}

func TestARestartAfterTheEndStillDeregisters(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeMarker(dir, marker{UUID: runnerUUID, Name: "pod", Ended: true}); err != nil {
		t.Fatal(err)
	}
	s := startSidecar(t, c, dir, nil)
	sidecartest.Eventually(t, "the runner is deregistered", func() bool { _, _, n := c.counts(); return n == 1 })
	s.end(t)
	if registers, _, _ := c.counts(); registers != 0 || c.last(0) != "ENDED" {
		t.Errorf("%d registers and state %q, want 0 and ENDED", registers, c.last(0))
	}
}

func TestTheBinaryIsInstalledForTheRunner(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	info, err := os.Stat(filepath.Join(dir, binaryName))
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

package testbed_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/testbed"
	"bitbucket-runner-scaler/externalscaler/testbed/story"
)

const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// The numbers are KEDA's. The end-to-end suite compares the function with KEDA's code.
func TestArithmetic(t *testing.T) {
	for name, c := range map[string]struct {
		metric, target   float64
		maximum, running int
		want             int
	}{
		"none desired":              {0, 1, 10, 0, 0},
		"all missing":               {5, 1, 10, 0, 5},
		"all running":               {5, 1, 10, 5, 0},
		"some running":              {5, 1, 10, 2, 3},
		"more running than desired": {2, 1, 10, 5, 0},
		"at most max":               {50, 1, 10, 0, 10},
		"max is full":               {50, 1, 10, 10, 0},
		"a fraction is rounded up":  {2.2, 1, 10, 0, 3},
		"several per Job":           {10, 4, 10, 0, 3},
		"never more than queued":    {8, 0.125, 84, 13, 8},
		"negative is nothing":       {-3, 1, 10, 0, 0},
		"no target creates none":    {3, 0, 10, 0, 0},
		"a thousandth is nothing":   {0.0004, 1, 10, 0, 0},
	} {
		if got := testbed.Arithmetic(c.metric, c.target, c.maximum, c.running); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

// kedaInterval is the pollingInterval of the test beds.
const kedaInterval = 500 * time.Millisecond

// bed starts a test bed with the real programs.
func bed(t *testing.T) *testbed.Bed {
	t.Helper()
	return bedWith(t, testbed.Config{})
}

// bedWith is bed with additional settings.
func bedWith(t *testing.T, config testbed.Config) *testbed.Bed {
	t.Helper()
	dir, err := os.MkdirTemp("", "brs-") // short: it is part of a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	build := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "bitbucket-runner-scaler/cmd/sidecar", "bitbucket-runner-scaler/cmd/bitbucket-emulator")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v: %s", err, out)
	}
	config.Dir = dir
	config.Binaries = testbed.Binaries{Sidecar: filepath.Join(dir, "sidecar"), Runner: []string{filepath.Join(dir, "bitbucket-emulator"), "runner"}}
	config.Emulator = emulator.Options{AssignLag: 200 * time.Millisecond}
	config.ControlPlane = controlplane.Config{PollInterval: time.Second, MaxStaleness: time.Minute, WriteSettle: time.Second, OrphanGrace: time.Second, ReaperInterval: 200 * time.Millisecond, StepAssignDelay: time.Second}
	config.KEDAInterval, config.Logger = kedaInterval, zaptest.NewLogger(t)
	b, err := testbed.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return b
}

func until(t *testing.T, b *testbed.Bed, what string, done func(emulator.State) bool) emulator.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		state, err := b.Control.State(ctx)
		if err == nil && done(state) {
			return state
		}
		select {
		case <-ctx.Done():
			logs, _ := b.PodLogs()
			t.Fatalf("waited for %s: %+v; %+v; %v\n%s", what, state, b.Groups(), err, logs)
		case <-ticker.C:
		}
	}
}

// With real processes, a burst of steps is run and the surplus is removed. When the
// ScaledJob is deleted, everything is removed. No pod's log contains a runner's secret.
func TestRealProcessesRunABurstAndNothingRemains(t *testing.T) {
	b := bed(t)
	closed := false
	defer func() {
		if !closed {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	scaledJob := b.Apply(fleet.GroupKey{Namespace: "ns", Name: "builds"}, map[string]string{
		"workspace": "acme", "labels": "builds", "min": "1", "max": "3", "coolDown": "1s",
	})
	until(t, b, "the first runner", func(s emulator.State) bool { return len(s.Runners) == 1 && s.Runners[0].Status == "ONLINE" })
	if _, err := b.Control.QueueSteps(t.Context(), emulator.StepRequest{Workspace: "acme", Repository: "app", Labels: []string{"linux", "builds"}, Duration: "2s", Count: 5}); err != nil {
		t.Fatal(err)
	}
	state := until(t, b, "the steps to pass", func(s emulator.State) bool {
		passed := 0
		for _, step := range s.Steps {
			if step.Outcome == emulator.OutcomePassed {
				passed++
			}
		}
		return passed == 5
	})
	for set, peak := range state.Counters.PeakOnline {
		if peak > 3 {
			t.Errorf("%d runners of %s at once, max is 3", peak, set)
		}
	}
	state = until(t, b, "the surplus to be removed", func(s emulator.State) bool {
		return len(s.Runners) == 1 && len(b.Cluster.JobsOf(scaledJob.UID)) == 1
	})
	if c := state.Counters; c.BusyRunnersDeleted != 0 || len(c.StepsLost) != 0 || c.StepsFailedNoRunner != 0 {
		t.Errorf("busy deleted %d, lost %v, failed without a runner %d", c.BusyRunnersDeleted, c.StepsLost, c.StepsFailedNoRunner)
	}
	if completed, failed := b.Cluster.Finished(); failed != 0 || completed == 0 {
		t.Errorf("%d Jobs completed, %d failed; want the stopped ones to complete", completed, failed)
	}
	b.Delete(scaledJob.UID)
	until(t, b, "everything to be removed", func(s emulator.State) bool { return len(s.Runners) == 0 && len(b.Cluster.Unfinished()) == 0 })
	logs, err := b.PodLogs()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(logs, "OAUTH_CLIENT_SECRET=") {
		t.Error("the runner's environment is in a pod's log")
	}
	closed = true
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// When a pod is deleted, its runner is removed and KEDA starts another.
func TestDeletedPodLeavesNoRunner(t *testing.T) {
	b := bed(t)
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	scaledJob := b.Apply(fleet.GroupKey{Namespace: "ns", Name: "builds"}, map[string]string{"workspace": "acme", "labels": "builds", "min": "1", "max": "2"})
	first := until(t, b, "the first runner", func(s emulator.State) bool { return len(s.Runners) == 1 && s.Runners[0].Status == "ONLINE" }).Runners[0]
	b.DeletePod(b.Cluster.JobsOf(scaledJob.UID)[0].UID)
	until(t, b, "another runner in its place", func(s emulator.State) bool {
		return len(s.Runners) == 1 && s.Runners[0].UUID != first.UUID && s.Runners[0].Status == "ONLINE"
	})
}

// A pod that is deleted during a step ends after the step.
func TestPodDeletedDuringAStepFinishesIt(t *testing.T) {
	for name, remove := range map[string]func(b *testbed.Bed, scaledJob fleet.ScaledJob){
		"the pod":       func(b *testbed.Bed, s fleet.ScaledJob) { b.DeletePod(b.Cluster.JobsOf(s.UID)[0].UID) },
		"the ScaledJob": func(b *testbed.Bed, s fleet.ScaledJob) { b.Delete(s.UID) },
	} {
		t.Run(name, func(t *testing.T) {
			b := bed(t)
			defer func() {
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}()
			scaledJob := b.Apply(fleet.GroupKey{Namespace: "ns", Name: "builds"}, map[string]string{"workspace": "acme", "labels": "builds", "min": "1", "max": "1"})
			first := until(t, b, "the first runner", func(s emulator.State) bool { return len(s.Runners) == 1 && s.Runners[0].Status == "ONLINE" }).Runners[0]
			if _, err := b.Control.QueueSteps(t.Context(), emulator.StepRequest{Workspace: "acme", Repository: "app", Labels: []string{"linux", "builds"}, Duration: "3s", Count: 1}); err != nil {
				t.Fatal(err)
			}
			until(t, b, "the step to run", func(s emulator.State) bool { return s.Runners[0].StepUUID != "" && !s.Steps[0].StartedOn.IsZero() })
			remove(b, scaledJob)
			until(t, b, "the step to pass and its runner to be removed", func(s emulator.State) bool {
				gone := true
				for _, r := range s.Runners {
					gone = gone && r.UUID != first.UUID
				}
				return gone && s.Steps[0].Outcome == emulator.OutcomePassed
			})
		})
	}
}

// Each ephemeral runner takes one step, and no step fails because there is no runner.
func TestEphemeralRunnersTakeOneStepEach(t *testing.T) {
	b := bed(t)
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	b.Apply(fleet.GroupKey{Namespace: "ns", Name: "builds"}, map[string]string{
		"workspace": "acme", "labels": "builds", "min": "1", "max": "3", "coolDown": "1s", "ephemeral": "true",
	})
	until(t, b, "the first runner", func(s emulator.State) bool { return len(s.Runners) == 1 && s.Runners[0].Status == "ONLINE" })
	const steps = 6
	if _, err := b.Control.QueueSteps(t.Context(), emulator.StepRequest{Workspace: "acme", Repository: "app", Labels: []string{"linux", "builds"}, Duration: "2s", Count: steps}); err != nil {
		t.Fatal(err)
	}
	state := until(t, b, "the steps to pass", func(s emulator.State) bool {
		passed := 0
		for _, step := range s.Steps {
			if step.Outcome == emulator.OutcomePassed {
				passed++
			}
		}
		return passed == steps
	})
	if c := state.Counters; c.StepsFailedNoRunner != 0 || len(c.StepsLost) != 0 || c.RunnersReused > 2 {
		t.Errorf("failed without a runner %d, lost %v, runners used again %d", c.StepsFailedNoRunner, c.StepsLost, c.RunnersReused)
	}
	until(t, b, "the used ones to be removed", func(s emulator.State) bool {
		for _, r := range s.Runners {
			if r.StepsTaken > 0 {
				return false
			}
		}
		return len(s.Runners) == 1
	})
	if _, failed := b.Cluster.Finished(); failed != 0 {
		t.Errorf("%d Jobs failed, want all to complete", failed)
	}
}

// A short form of the demo runs to its end and nothing remains: webhooks bring the first Job,
// and the Jobs for steps that begin to wait at once are created at once.
func TestStoryRunsToItsEnd(t *testing.T) {
	b := bedWith(t, testbed.Config{Webhooks: true})
	var out bytes.Buffer
	stage := testbed.NewStage(b, story.Groups(), map[string]string{"coolDown": "1s"})
	err := story.Run(t.Context(), stage, b.Control, story.Settings{Pace: time.Second, Poll: kedaInterval, Webhooks: true, Patience: patience}, &out)
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if want := "10 of 10 steps passed; 0 runners left"; !strings.Contains(out.String(), want) {
		t.Errorf("lacks %q in\n%s", want, &out)
	}
}

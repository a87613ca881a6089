package handbook

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/installation"
)

// raiseBitbucket deploys the emulator, which stays until the end.
func (j *journey) raiseBitbucket(t *testing.T) {
	manifests, err := os.ReadFile(filepath.Join(j.root, "e2e", "installation", "overlay", "emulator.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	deployed := filled(t, string(manifests), "image: bitbucket-emulator:latest", "image: "+installation.EmulatorImage)
	if _, err := j.kube.Run(t.Context(), deployed, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	j.types(t, "kubectl -n bitbucket-emulator rollout status deployment/bitbucket-emulator --timeout=120s")
	forward, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	address, ended, err := j.kube.Forward(forward, installation.Emulator, "service/"+installation.Emulator, "7990")
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	j.close = func() { cancel(); ended() }
	j.url = "http://" + address
	j.control = emulator.NewControl(j.url)
	nodes, err := j.kube.Run(t.Context(), "", "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	if err != nil {
		t.Fatal(err)
	}
	j.node = nodes
}

// incumbent registers a runner as Atlassian's autoscaler does, and leaves it OFFLINE.
func (j *journey) incumbent(t *testing.T) (uuid string) {
	t.Helper()
	var runner struct {
		UUID string `json:"uuid"`
	}
	answered(t, j.types(t, "curl -s -u dev@example.com:emulator-token "+j.url+`/2.0/workspaces/acme/pipelines-config/runners -d '{"name":"old-1","labels":["self.hosted","linux","gke.runner"]}'`), &runner)
	for _, action := range []string{"online", "offline"} {
		if err := j.control.SetRunner(t.Context(), runner.UUID, action, ""); err != nil {
			t.Fatal(err)
		}
	}
	return runner.UUID
}

// untilOnline waits for a runner of a label that can take steps.
func (j *journey) untilOnline(t *testing.T, label string) {
	t.Helper()
	j.until(t, "a runner of "+label, func() (bool, error) {
		state, err := j.control.State(t.Context())
		return slices.ContainsFunc(state.Runners, func(r emulator.RunnerInfo) bool {
			return r.Status == "ONLINE" && slices.Contains(r.Labels, label)
		}), err
	})
}

// runs queues a step for such runners, and waits until it has passed.
func (j *journey) runs(t *testing.T, labels ...string) {
	t.Helper()
	j.passes(t, j.queue(t, "2s", labels...))
}

func (j *journey) queue(t *testing.T, duration string, labels ...string) (step string) {
	t.Helper()
	uuids, err := j.control.QueueSteps(t.Context(), emulator.StepRequest{Workspace: "acme", Repository: "app", Labels: labels, Count: 1, Duration: duration})
	if err != nil {
		t.Fatal(err)
	}
	return uuids[0]
}

// outcome returns a step's outcome. It fails the test if the step failed.
func (j *journey) outcome(t *testing.T, uuid string) string {
	t.Helper()
	state, err := j.control.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range state.Steps {
		if step.UUID != uuid {
			continue
		}
		if step.Outcome != emulator.OutcomePassed && step.Outcome != emulator.OutcomeQueued && step.Outcome != emulator.OutcomeRunning {
			t.Fatalf("the step ended as %q: %s", step.Outcome, step.Cause)
		}
		return step.Outcome
	}
	t.Fatalf("no step %s", uuid)
	return ""
}

func (j *journey) passes(t *testing.T, step string) {
	t.Helper()
	j.until(t, "the step to pass", func() (bool, error) { return j.outcome(t, step) == emulator.OutcomePassed, nil })
}

// nobody checks that no runner is left at Bitbucket except the one that is not ours.
func (j *journey) nobody(t *testing.T) {
	t.Helper()
	state, err := j.control.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	others := 0
	for _, runner := range state.Runners {
		if runner.UUID == j.other && runner.Status == "OFFLINE" {
			others++
			continue
		}
		t.Errorf("a runner is left at Bitbucket: %+v", runner)
	}
	if others != 1 && j.other != "" { // empty if the stages with it are left out
		t.Error("the runner that is not ours was deleted or disabled")
	}
}

// nothing checks that nothing of the product is left in the cluster.
func (j *journey) nothing(t *testing.T) {
	t.Helper()
	j.until(t, "nothing to be left in the cluster", func() (bool, error) {
		left, err := j.kube.Run(t.Context(), "", "get", "namespaces,clusterroles,clusterrolebindings,scaledjobs,jobs,triggerauthentications", "-A", "-o", "name")
		for name := range strings.Lines(left) {
			if strings.Contains(name, "bitbucket-runner") {
				return false, errors.New(left)
			}
		}
		return true, err
	})
}

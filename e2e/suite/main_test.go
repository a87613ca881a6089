// Package suite tests the product end to end on one real cluster with KEDA.
package suite

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/cluster"
	"bitbucket-runner-scaler/e2e/installation"
)

// patience bounds each wait for a condition.
const patience = 3 * time.Minute

// shared is the cluster and what is installed in it.
var shared struct {
	cluster *cluster.Cluster
	*installation.Installation
}

func TestMain(m *testing.M) {
	code := cluster.Run(m, func(ctx context.Context, c *cluster.Cluster) error {
		if err := installation.BuildImages(ctx, c, os.Stderr); err != nil {
			return err
		}
		installed, err := installation.Install(ctx, installation.Kube{Kubectl: c.Binaries().Kubectl, Kubeconfig: c.Kubeconfig()}, installation.Images{})
		shared.cluster, shared.Installation = c, installed
		return err
	})
	if shared.Installation != nil {
		shared.Close()
	}
	os.Exit(code)
}

// group applies a copy of the example under that name, which is its label too,
// and deletes it with the test; then nothing of it may be left.
func group(t *testing.T, name string, metadata map[string]string) {
	t.Helper()
	all := map[string]string{"labels": name, "coolDown": "10s"}
	for key, value := range metadata {
		all[key] = value
	}
	if err := shared.Apply(t.Context(), installation.Edit{Name: name, Metadata: all}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := shared.Delete(ctx, name); err != nil {
			t.Error(err)
		}
		until(t, "nothing of the group to be left", func() (bool, error) {
			jobs, _, _, err := shared.Jobs(ctx)
			if err != nil {
				return false, err
			}
			pods, err := shared.Kube.Run(ctx, "", "-n", installation.Runners, "get", "pods", "-l", "scaledjob.keda.sh/name="+name, "-o", "name")
			return jobs[name] == 0 && pods == "" && len(runners(t, name)) == 0, err
		})
	})
}

// until waits for a condition; it goes on through errors and reports the last.
func until(t *testing.T, what string, done func() (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := done()
		if ok && err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited for %s; last error: %v; %s", what, err, picture(t))
		case <-ticker.C:
		}
	}
}

// picture says how things stand, for a failure.
func picture(t *testing.T) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	stage := installation.Stage{Installation: shared.Installation}
	view, err := stage.Look(ctx)
	events, _ := shared.Kube.Run(ctx, "", "-n", installation.Runners, "get", "events", "--sort-by=.lastTimestamp")
	log, _ := shared.Kube.Run(ctx, "", "-n", installation.ControlPlane, "logs", "deployment/"+installation.Scaler, "--tail=60")
	return fmt.Sprintf("view %+v (%v)\nevents:\n%s\nscaler:\n%s", view, err, events, log)
}

func state(t *testing.T) emulator.State {
	t.Helper()
	state, err := shared.Control.State(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// runners are those registered with a label.
func runners(t *testing.T, label string) []emulator.RunnerInfo {
	t.Helper()
	var found []emulator.RunnerInfo
	for _, runner := range state(t).Runners {
		for _, l := range runner.Labels {
			if l == label {
				found = append(found, runner)
			}
		}
	}
	return found
}

// online counts the runners of a label that are ONLINE, and those with a step.
func online(t *testing.T, label string) (all, busy int) {
	t.Helper()
	for _, runner := range runners(t, label) {
		if runner.Status != "ONLINE" {
			continue
		}
		all++
		if runner.StepUUID != "" {
			busy++
		}
	}
	return all, busy
}

// untilOnline waits for that many runners, so many of them busy.
func untilOnline(t *testing.T, label string, all, busy int) {
	t.Helper()
	until(t, fmt.Sprintf("%d runners of %s online, %d busy", all, label, busy), func() (bool, error) {
		a, b := online(t, label)
		return a == all && b == busy, nil
	})
}

func queue(t *testing.T, label string, count int, duration string) []string {
	t.Helper()
	uuids, err := shared.Control.QueueSteps(t.Context(), emulator.StepRequest{
		Workspace: "acme", Repository: "app", Labels: []string{"self.hosted", "linux", label}, Count: count, Duration: duration,
	})
	if err != nil {
		t.Fatal(err)
	}
	return uuids
}

// untilPassed waits until all steps have ended, and fails unless all passed.
func untilPassed(t *testing.T, uuids []string) {
	t.Helper()
	until(t, "the steps to end", func() (bool, error) {
		outcomes := map[string]string{}
		for _, step := range state(t).Steps {
			outcomes[step.UUID] = strings.TrimSpace(step.Outcome + " " + step.Cause)
		}
		for _, uuid := range uuids {
			switch outcomes[uuid] {
			case emulator.OutcomePassed:
			case emulator.OutcomeQueued, emulator.OutcomeRunning:
				return false, nil
			default:
				t.Fatalf("step %s: %q", uuid, outcomes[uuid])
			}
		}
		return true, nil
	})
}

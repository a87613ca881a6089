// Package suite tests the product end to end on one real cluster with KEDA.
package suite

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/cluster"
	"bitbucket-runner-scaler/e2e/installation"
)

// patience bounds each wait for a condition.
const patience = 3 * time.Minute

// shared contains what the tests share.
var shared struct {
	*installation.Installation
	client   kubernetes.Interface
	binaries cluster.Binaries
	images   installation.ImageBuilder
	// node is the directory of the node's files.
	node string
}

const (
	// full is the variable that enables the long tests, whose names begin with
	// TestLong.
	full = "E2E_FULL"
	// hidden is the variable that makes Bitbucket's lists show no steps.
	hidden = "E2E_HIDE_STEP"
)

// choose sets the test flags that the command line may still overrule: how many
// tests run at a time, since most of the time each waits for pods, and which.
func choose() error {
	flags := map[string]string{"test.parallel": "10"}
	switch {
	case os.Getenv(full) == "":
		flags["test.skip"] = "^TestLong"
	case os.Getenv(hidden) != "": // which the first build did not know of
		flags["test.skip"] = "^TestLongBuildIsCompatibleWithThePreviousOne$"
	}
	var errs []error
	for name, value := range flags {
		errs = append(errs, flag.Set(name, value))
	}
	return errors.Join(errs...)
}

func TestMain(m *testing.M) {
	if err := choose(); err != nil {
		panic(err)
	}
	code := cluster.Run(m, func(ctx context.Context, c *cluster.Cluster) error {
		if err := installation.BuildImages(ctx, c, os.Stderr); err != nil {
			return err
		}
		shared.images = c
		return install(ctx, c.Binaries(), c.Kubeconfig())
	})
	if shared.Installation != nil {
		shared.Close()
	}
	os.Exit(code)
}

// install sets shared.
func install(ctx context.Context, binaries cluster.Binaries, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 100, 200 // many tests poll at the same time
	if shared.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	shared.binaries, shared.node = binaries, filepath.Dir(kubeconfig)
	var flags []string
	if os.Getenv(hidden) != "" {
		flags = append(flags, "--hide-step")
	}
	shared.Installation, err = installation.Install(ctx, installation.Kube{Kubectl: binaries.Kubectl, Kubeconfig: kubeconfig}, installation.Images{}, flags...)
	if err == nil && !binaries.Versions.ReadsAuthorityAgain() {
		err = restartKEDA(ctx)
	}
	return err
}

// restartKEDA does what docs/troubleshoot.md says of KEDA before 2.20: it restarts the
// operator, once the first group has the scaler publish its authority.
func restartKEDA(ctx context.Context) error {
	const name = "first"
	if err := shared.Apply(ctx, installation.Edit{Name: name, Metadata: map[string]string{"labels": name}}); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"-n", installation.Runners, "wait", "--for=create", "configmap/bitbucket-runner-scaler-ca", "--timeout=60s"},
		{"-n", "keda", "rollout", "restart", "deployment/keda-operator"},
		{"-n", "keda", "rollout", "status", "deployment/keda-operator", "--timeout=120s"},
	} {
		if _, err := shared.Kube.Run(ctx, "", args...); err != nil {
			return err
		}
	}
	// KEDA keeps the connection of its first call, so that is made while the authority is there.
	if err := installation.Until(ctx, patience, "KEDA to create a Job", func() (bool, error) {
		jobs, _, _, err := shared.Jobs(ctx)
		return jobs[name] > 0, err
	}); err != nil {
		return err
	}
	return shared.Delete(ctx, name)
}

// group applies a copy of the example with that name, which is also its label. At the end
// of the test it deletes the group and checks that nothing of it is left.
func group(t *testing.T, name string, metadata map[string]string) {
	t.Helper()
	edited(t, installation.Edit{Name: name, Metadata: metadata})
}

// edited is group with additional changes in the copy of the example.
func edited(t *testing.T, edit installation.Edit) {
	t.Helper()
	name, all := edit.Name, map[string]string{"labels": edit.Name, "coolDown": "10s"}
	maps.Copy(all, edit.Metadata)
	edit.Metadata = all
	if err := shared.Apply(t.Context(), edit); err != nil {
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

// until waits for a condition. It continues after errors and reports the last one.
func until(t *testing.T, what string, done func() (bool, error)) {
	t.Helper()
	untilWithin(t, patience, what, done)
}

// untilWithin is until with another time limit.
func untilWithin(t *testing.T, bound time.Duration, what string, done func() (bool, error)) {
	t.Helper()
	if err := installation.Until(context.WithoutCancel(t.Context()), bound, what, done); err != nil {
		t.Fatalf("%v; %s", err, picture(t))
	}
}

// picture describes the current state, for a test's failure.
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

// runners returns the runners registered with a label.
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

// queue queues steps in the repository app and returns their UUIDs.
func queue(t *testing.T, label string, count int, duration string) []string {
	t.Helper()
	return queueIn(t, "app", label, count, duration)
}

func queueIn(t *testing.T, repository, label string, count int, duration string) []string {
	t.Helper()
	uuids, err := shared.Control.QueueSteps(t.Context(), emulator.StepRequest{
		Workspace: "acme", Repository: repository, Labels: []string{"self.hosted", "linux", label}, Count: count, Duration: duration,
	})
	if err != nil {
		t.Fatal(err)
	}
	return uuids
}

// untilPassed waits until all steps have ended. It fails the test unless all passed.
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

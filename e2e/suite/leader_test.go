package suite

import (
	"context"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/e2e/installation"
)

// takeover is how long KEDA may be without an answer after a leader's death, including
// the delay of a loaded machine and of a caller's retries.
const takeover, slack = 10 * time.Second, 5 * time.Second

func TestLeaderThatDiesDuringABurstLosesNoStep(t *testing.T) {
	group(t, "killed", map[string]string{"min": "1", "max": "4"})
	untilOnline(t, "killed", 1, 0)
	ask := asker(t, "killed", map[string]string{"min": "1", "max": "4"})
	steps := queue(t, "killed", 8, "15s")
	untilBusy(t, "killed", 2)
	_, leader := replicas(t)
	held := holder(t)
	process := processOf(t, string(leader.UID), "/scaler")
	begun := time.Now()
	process.kill(t)
	// The next leader can be in the same pod, whose container restarts at once.
	until(t, "another process to lead", func() (bool, error) {
		now := holder(t)
		return now != "" && now != held, nil
	})
	until(t, "GetMetrics to be answered", func() (bool, error) { return ask() == nil, nil })
	took := time.Since(begun)
	t.Logf("GetMetrics was answered %.1f s after the leader's death", took.Seconds())
	if took > takeover+slack {
		t.Errorf("it took %s until GetMetrics was answered, want at most %s", took, takeover)
	}
	untilDone(t, "killed", steps)
}

func TestLongRollingUpdateDuringABurstLosesNoStep(t *testing.T) {
	group(t, "rolled", map[string]string{"min": "1", "max": "4"})
	untilOnline(t, "rolled", 1, 0)
	ask := asker(t, "rolled", map[string]string{"min": "1", "max": "4"})
	steps := queue(t, "rolled", 8, "10s")
	untilBusy(t, "rolled", 2)
	gap := watchAnswers(t, ask)
	for _, args := range [][]string{{"restart"}, {"status", "--timeout=120s"}} {
		if _, err := shared.Kube.Run(t.Context(), "", append([]string{"-n", installation.ControlPlane, "rollout", args[0], "deployment/" + installation.Scaler}, args[1:]...)...); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("the longest time without an answer to GetMetrics: %.1f s", gap().Seconds())
	untilDone(t, "rolled", steps)
}

// There is only one node, so the pods are evicted one after another, like in a drain of two
// nodes.
func TestLongDrainOfTheControlPlaneDuringABurstLosesNoStep(t *testing.T) {
	group(t, "moved", map[string]string{"min": "1", "max": "4"})
	untilOnline(t, "moved", 1, 0)
	ask := asker(t, "moved", map[string]string{"min": "1", "max": "4"})
	steps := queue(t, "moved", 8, "10s")
	untilBusy(t, "moved", 2)
	gap := watchAnswers(t, ask)
	before, _ := replicas(t)
	for _, pod := range before {
		evict(t, pod)
		until(t, "two replicas to be ready without "+pod.Name, func() (bool, error) {
			ready := 0
			now, leader := replicas(t)
			for _, other := range now {
				if other.UID == pod.UID {
					return false, nil
				}
				for _, condition := range other.Status.Conditions {
					if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
						ready++
					}
				}
			}
			return ready == 2 && leader.Name != "", nil
		})
	}
	t.Logf("the longest time without an answer to GetMetrics: %.1f s", gap().Seconds())
	untilDone(t, "moved", steps)
}

// untilBusy waits for at least so many busy runners.
func untilBusy(t *testing.T, label string, want int) {
	t.Helper()
	until(t, label+" to be busy", func() (bool, error) {
		_, busy := online(t, label)
		return busy >= want, nil
	})
}

// untilDone waits until the steps of a burst have passed and the group has one runner
// again.
func untilDone(t *testing.T, group string, steps []string) {
	t.Helper()
	untilPassed(t, steps)
	untilOnline(t, group, 1, 0)
	until(t, "the Jobs to be back at the minimum", func() (bool, error) {
		jobs, _, _, err := shared.Jobs(t.Context())
		return jobs[group] == 1 && len(runners(t, group)) == 1, err
	})
	if failed := failedJobs(t, group); len(failed) > 0 {
		t.Errorf("Jobs %v failed", failed)
	}
}

// asker reads a group's metric as KEDA does.
func asker(t *testing.T, group string, metadata map[string]string) func() error {
	t.Helper()
	trigger := map[string]string{"workspace": "acme", "labels": group, "coolDown": "10s"}
	for key, value := range metadata {
		trigger[key] = value
	}
	request := &externalscaler.GetMetricsRequest{ScaledObjectRef: &externalscaler.ScaledObjectRef{
		Name: group, Namespace: installation.Runners, ScalerMetadata: trigger,
	}}
	client := externalscaler.NewExternalScalerClient(dial(t, grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second}, MinConnectTimeout: time.Second,
	})))
	return func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Second)
		defer cancel()
		_, err := client.GetMetrics(ctx, request)
		return err
	}
}

// watchAnswers reads the metric continuously. The returned function stops it and returns
// the longest time without an answer.
func watchAnswers(t *testing.T, ask func() error) (longest func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	gap := make(chan time.Duration, 1)
	go func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		last, worst := time.Now(), time.Duration(0)
		for {
			select {
			case <-ctx.Done():
				gap <- worst
				return
			case <-ticker.C:
			}
			err := ask()
			worst = max(worst, time.Since(last))
			if err == nil {
				last = time.Now()
			}
		}
	}()
	t.Cleanup(cancel)
	return func() time.Duration {
		cancel()
		return <-gap
	}
}

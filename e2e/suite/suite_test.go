package suite

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/installation"
	"bitbucket-runner-scaler/externalscaler/testbed"
)

// The steps are the example of Atlassian's runners-autoscaler, on real pods.
func TestWorkedExampleEndToEnd(t *testing.T) {
	t.Parallel()
	group(t, "worked", map[string]string{"min": "1", "max": "10", "scaleUpThreshold": "0.8", "coolDown": "0s"})
	untilOnline(t, "worked", 1, 0)
	steps := queue(t, "worked", 1, "40s")
	untilOnline(t, "worked", 2, 1) // 1/1 = 1.0 > 0.8: ceil(1 * 1.5) = 2
	untilPassed(t, steps)
	untilOnline(t, "worked", 1, 0) // 0/2 = 0 < 0.2: floor(2 * 0.5) = 1
	for set, peak := range state(t).Counters.PeakOnline {
		if strings.Contains(set, "worked") && peak != 2 {
			t.Errorf("at most %d were online at once, want 2", peak)
		}
	}
}

func TestBurstIsRunAndNothingRemains(t *testing.T) {
	t.Parallel()
	before := state(t).Counters.BusyRunnersDeleted
	group(t, "burst", map[string]string{"min": "1", "max": "5"})
	untilOnline(t, "burst", 1, 0)
	untilPassed(t, queue(t, "burst", 5, "5s"))
	untilOnline(t, "burst", 1, 0)
	until(t, "the Jobs to be back at the minimum", func() (bool, error) {
		jobs, _, _, err := shared.Jobs(t.Context())
		return jobs["burst"] == 1, err
	})
	if failed := failedJobs(t, "burst"); len(failed) > 0 {
		t.Errorf("Jobs %v failed", failed)
	}
	if after := state(t).Counters.BusyRunnersDeleted; after != before {
		t.Errorf("%d busy runners deleted", after-before)
	}
}

func TestMaxIsNotExceeded(t *testing.T) {
	t.Parallel()
	group(t, "capped", map[string]string{"min": "1", "max": "2"})
	untilOnline(t, "capped", 1, 0)
	untilPassed(t, queue(t, "capped", 6, "3s"))
	for set, peak := range state(t).Counters.PeakOnline {
		if strings.Contains(set, "capped") && peak > 2 {
			t.Errorf("%d runners were online at once, max is 2", peak)
		}
	}
}

func TestInvalidTriggerIsReportedOnTheScaledJob(t *testing.T) {
	t.Parallel()
	group(t, "wrong", map[string]string{"min": "9", "max": "3", "labels": "Wrong"})
	until(t, "the event", func() (bool, error) {
		text, err := shared.Kube.Run(t.Context(), "", "-n", installation.Runners, "get", "events", "--field-selector", "involvedObject.name=wrong,reason=KEDAScalerFailed", "-o", "jsonpath={.items[*].message}")
		return strings.Contains(text, `labels: "Wrong", want lower-case`) && strings.Contains(text, `min: "9", want at most max, which is 3`), err
	})
	if jobs, _, _, err := shared.Jobs(t.Context()); err != nil || jobs["wrong"] != 0 {
		t.Errorf("%d Jobs, %v", jobs["wrong"], err)
	}
}

func TestBitbucketDownForAMinuteChangesNothing(t *testing.T) {
	group(t, "outage", map[string]string{"min": "2", "max": "5"})
	untilOnline(t, "outage", 2, 0)
	before := uuids(t, "outage")
	if err := shared.Control.SetFaults(t.Context(), []emulator.FaultRule{{Path: "/2.0/*", Status: 503}, {Path: "/internal/*", Status: 503}, {Path: "/site/*", Status: 503}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.Control.SetFaults(context.WithoutCancel(t.Context()), nil); err != nil {
			t.Error(err)
		}
	})
	begun := time.Now()
	until(t, "a minute to pass in which no runner and no Job comes or goes", func() (bool, error) {
		jobs, _, _, err := shared.Jobs(t.Context())
		if now := uuids(t, "outage"); now != before || err == nil && jobs["outage"] != 2 {
			t.Fatalf("runners %s, then %s; %d Jobs", before, now, jobs["outage"])
		}
		return time.Since(begun) > time.Minute, err
	})
	if err := shared.Control.SetFaults(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	untilPassed(t, queue(t, "outage", 2, "1s"))
}

func uuids(t *testing.T, label string) string {
	t.Helper()
	var all []string
	for _, runner := range runners(t, label) {
		all = append(all, runner.UUID)
	}
	return strings.Join(all, " ")
}

func TestGrpcurlListsTheServiceAndReadsTheMetric(t *testing.T) {
	t.Parallel()
	metadata := map[string]string{"min": "1", "max": "3"}
	group(t, "asked", metadata)
	untilOnline(t, "asked", 1, 0)
	root, err := installation.Root()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	address, wait, err := shared.Kube.Forward(ctx, installation.ControlPlane, "service/"+installation.Scaler, "9090")
	if err != nil {
		t.Fatal(err)
	}
	defer wait()
	defer cancel()
	bundle := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(bundle, authorities(t), 0o600); err != nil {
		t.Fatal(err)
	}
	grpcurl := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, "go", append([]string{"tool", "-modfile=.ci/tools.mod", "grpcurl", "-cacert", bundle, "-servername", serverName, "-max-time", "20"}, args...)...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("grpcurl %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	services := grpcurl(address, "list")
	for _, want := range []string{"externalscaler.ExternalScaler", "runner.v1.RunnerService", "grpc.health.v1.Health"} {
		if !strings.Contains(services, want) {
			t.Errorf("the list lacks %s:\n%s", want, services)
		}
	}
	// Here as the documentation has it.
	_, port, _ := strings.Cut(address, ":")
	ask := exec.CommandContext(ctx, "bash", "-euc", `kubectl() { "$KUBECTL" "$@"; }
grpcurl() { go -C "$ROOT" tool -modfile=.ci/tools.mod grpcurl "${@/ca.crt/$PWD/ca.crt}"; }`+installation.Asking("asked", port))
	ask.Dir = t.TempDir()
	ask.Env = append(os.Environ(), "KUBECONFIG="+shared.Kube.Kubeconfig, "KUBECTL="+shared.Kube.Kubectl, "ROOT="+root)
	if answer, err := ask.CombinedOutput(); err != nil || !strings.Contains(string(answer), `"metricValueFloat": 1`) {
		t.Errorf("got %s, %v", answer, err)
	}
}

func TestArithmeticAgreesWithKEDA(t *testing.T) {
	type question struct {
		Metric  float64 `json:"metric"`
		Target  float64 `json:"target"`
		Max     int     `json:"max"`
		Running int     `json:"running"`
		Pending int     `json:"pending"`
	}
	var questions []question
	for metric := range 13 {
		for running := range 13 {
			questions = append(questions, question{Metric: float64(metric), Target: 1, Max: 10, Running: running})
		}
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // reproducible
	for range 1000 {
		running := random.IntN(120)
		questions = append(questions, question{
			Metric: float64(random.IntN(120000)) / 1000, Target: float64(1+random.IntN(3000)) / 1000, Max: 1 + random.IntN(100),
			Running: running, Pending: random.IntN(running + 1),
		})
	}
	var in strings.Builder
	encoder := json.NewEncoder(&in)
	for _, q := range questions {
		if err := encoder.Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), shared.binaries.KEDAArithmetic)
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := json.NewDecoder(strings.NewReader(string(out)))
	for _, q := range questions {
		var answer struct {
			Create int `json:"create"`
		}
		if err := answers.Decode(&answer); err != nil {
			t.Fatal(err)
		}
		if got := testbed.Arithmetic(q.Metric, q.Target, q.Max, q.Running); got != answer.Create {
			t.Errorf("%+v: the stand-in creates %d, KEDA %d", q, got, answer.Create)
		}
	}
}

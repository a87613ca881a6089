package controlplane_test

import (
	"slices"
	"strings"
	"testing"

	"bitbucket-runner-scaler/externalscaler/scope"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/fleet"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestPodRegistersItsOwnRunner(t *testing.T) {
	p := start(t, quick(), nil)
	d := p.pod(p.group)
	response, err := d.register()
	if err != nil {
		t.Fatal(err)
	}
	got := response.GetRunner()
	if want := scope.RunnerName(d.job.Pod.Name, d.job.Pod.UID); got.GetName() != want {
		t.Errorf("name %q, want %q", got.GetName(), want)
	}
	for _, name := range []string{"ACCOUNT_UUID", "RUNNER_UUID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_TOKEN_ENDPOINT", "WORKING_DIRECTORY", "RUNTIME_PREREQUISITES_ENABLED"} {
		if got.GetEnvironment()[name] == "" {
			t.Errorf("the environment lacks %s", name)
		}
	}
	if got.GetEnvironment()["ACCOUNT_UUID"] != "{11111111-1111-4111-8111-111111111111}" {
		t.Errorf("ACCOUNT_UUID %q, want the workspace's UUID", got.GetEnvironment()["ACCOUNT_UUID"])
	}
	runner := p.state().Runners[0]
	slices.Sort(runner.Labels)
	want := []string{"builds", p.Owner(), "linux", "self.hosted"}
	slices.Sort(want)
	if !slices.Equal(runner.Labels, want) {
		t.Errorf("labels %q, want %q", runner.Labels, want)
	}
}

func TestRepositoryRunnerGetsItsRepository(t *testing.T) {
	p := start(t, quick(), map[string]string{"repository": "app"})
	response, err := p.pod(p.group).register()
	if err != nil || response.GetRunner().GetEnvironment()["REPOSITORY_UUID"] != "{22222222-2222-4222-8222-222222222222}" {
		t.Errorf("got %v, %v", response.GetRunner().GetEnvironment()["REPOSITORY_UUID"], err)
	}
	if scope := p.state().Runners[0].Scope; !strings.Contains(scope, "app") {
		t.Errorf("scope %q", scope)
	}
}

func TestOnlyPodsOfAScaledJobMayRegister(t *testing.T) {
	p := start(t, quick(), nil)
	p.until("the first list", func() bool { _, err := p.metric(p.group); return err == nil })
	stranger := &pod{p: p, token: "not-a-token"}
	if _, err := stranger.register(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a wrong token: got %v", err)
	}
	if _, err := p.runners.Register(t.Context(), &runnerv1.RegisterRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("no token: got %v", err)
	}
	if _, err := p.runners.Deregister(t.Context(), &runnerv1.DeregisterRequest{RunnerUuid: "{x}"}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("deregister without a token: got %v", err)
	}
	orphan := p.pod(fleet.ScaledJob{GroupKey: fleet.GroupKey{Namespace: "ns", Name: "deleted"}, UID: "gone"})
	if _, err := orphan.register(); status.Code(err) != codes.NotFound {
		t.Errorf("a pod without a ScaledJob: got %v", err)
	}
	faulty := p.pod(p.apply("faulty", map[string]string{"min": "x"}))
	if _, err := faulty.register(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `min: "x"`) {
		t.Errorf("a pod of a faulty ScaledJob: got %v", err)
	}
	elsewhere := p.group // anyone who may create Jobs in another namespace can name the ScaledJob as their owner
	elsewhere.Namespace = "elsewhere"
	forged := p.pod(elsewhere)
	if _, err := forged.register(); status.Code(err) != codes.NotFound {
		t.Errorf("a pod in another namespace than its ScaledJob: got %v", err)
	}
	if n := len(p.state().Runners); n != 0 {
		t.Errorf("%d runners were registered", n)
	}
}

func TestLiveRunnersNeverExceedMax(t *testing.T) {
	p := start(t, quick(), map[string]string{"max": "2"})
	var finished, registered int
	results := make(chan *runnerv1.RegisterResponse)
	for range 6 {
		d := p.pod(p.group)
		go func() {
			response, err := d.register()
			if err != nil {
				t.Error(err)
			}
			results <- response
		}()
	}
	for range 6 {
		switch response := <-results; {
		case response.GetRunner() != nil:
			registered++
		case response.GetFinish().GetReason() != "":
			finished++
		}
	}
	if registered != 2 || finished != 4 || len(p.state().Runners) != 2 {
		t.Errorf("%d registered, %d to finish, %d at Bitbucket; want 2, 4, 2", registered, finished, len(p.state().Runners))
	}
}

func TestRegistrationInAFullScopeIsRetriedLater(t *testing.T) {
	p := start(t, quick(), map[string]string{"max": "100"})
	for range 100 {
		if _, err := registerElsewhere(t, p, "someone.else"); err != nil {
			t.Fatal(err)
		}
	}
	p.until("the list to show them", func() bool { n, err := p.metric(p.group); return err == nil && n == 0 })
	post := "POST /2.0/workspaces/{workspace}/pipelines-config/runners"
	before := p.state().Counters.Calls[post]
	_, err := p.pod(p.group).register()
	if calls := p.state().Counters.Calls[post] - before; calls != 0 {
		t.Errorf("Bitbucket was asked %d times for a runner beyond its limit", calls)
	}
	st := status.Convert(err)
	if st.Code() != codes.ResourceExhausted || len(st.Details()) != 1 {
		t.Fatalf("got %v, want RESOURCE_EXHAUSTED with a delay", err)
	}
	if info, ok := st.Details()[0].(*errdetails.RetryInfo); !ok || info.GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("got %v", st.Details())
	}
}

func TestLostReplyOfARegistrationIsNotRepeatedBlindly(t *testing.T) {
	p := start(t, quick(), nil)
	p.until("the first list", func() bool { _, err := p.metric(p.group); return err == nil })
	p.faults(emulator.FaultRule{Method: "POST", Path: "*/pipelines-config/runners", DropAfterWrite: true, Count: 1})
	d := p.pod(p.group)
	if _, err := d.register(); status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v, want UNAVAILABLE while the outcome is unknown", err)
	}
	if n := len(p.state().Runners); n != 1 {
		t.Fatalf("%d runners after the lost reply", n)
	}
	p.until("the outcome, and a runner whose secret is known", func() bool {
		response, err := d.register()
		return err == nil && response.GetRunner() != nil
	})
	runners := p.state().Runners
	if len(runners) != 1 || runners[0].UUID != d.uuid {
		t.Errorf("got %+v, want the one that was returned", runners)
	}
}

func TestRegistrationWithAnUnknownOutcomeKeepsItsPlace(t *testing.T) {
	p := start(t, quick(), map[string]string{"max": "1"})
	// While the fault lasts, no list can show whether there is a runner.
	p.faults(emulator.FaultRule{Method: "POST", Path: "*/pipelines-config/runners", DropAfterWrite: true, Count: 1}, emulator.FaultRule{Method: "GET", Path: "*/pipelines-config/runners", Status: 503})
	if _, err := p.pod(p.group).register(); status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v, want UNAVAILABLE while the outcome is unknown", err)
	}
	another := p.pod(p.group)
	p.until("the other pod to be to finish", func() bool {
		response, err := another.register()
		return err == nil && response.GetFinish() != nil
	})
	if n := len(p.state().Runners); n != 1 {
		t.Errorf("%d runners are registered, max is 1", n)
	}
}

func TestRunnerThatMayRunIsNotReplaced(t *testing.T) {
	p := start(t, quick(), nil)
	d := p.pod(p.group)
	if _, err := d.register(); err != nil {
		t.Fatal(err)
	}
	first := d.uuid
	if _, err := d.register(); err != nil || d.uuid == first {
		t.Fatalf("a runner whose environment was never returned: got %v and %s, want it replaced", err, d.uuid)
	}
	if runners := p.state().Runners; len(runners) != 1 || runners[0].UUID != d.uuid {
		t.Fatalf("got %+v", runners)
	}
	d.set("online", "")
	p.until("the list to show it online", p.counts("unknown", 1))
	if _, err := d.register(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("got %v, want FAILED_PRECONDITION", err)
	}
}

func TestDeregisterDeletesOnlyTheOwnRunner(t *testing.T) {
	p := start(t, quick(), nil)
	other := p.pod(p.group).online()
	d := p.pod(p.group).online()
	response, err := p.runners.Deregister(d.ctx(), &runnerv1.DeregisterRequest{RunnerUuid: other.uuid})
	if err != nil || !response.GetGone() {
		t.Fatalf("got %v, %v", response, err)
	}
	if d.status() != "" || other.status() != "ONLINE" {
		t.Errorf("own runner %q, the other %q; want it deleted, and the other online", d.status(), other.status())
	}
	if response, err := p.runners.Deregister(d.ctx(), &runnerv1.DeregisterRequest{}); err != nil || !response.GetGone() {
		t.Errorf("again: got %v, %v", response, err)
	}
}

func TestRunnerWithAStepIsNotDeleted(t *testing.T) {
	p := start(t, quick(), nil)
	d := p.pod(p.group).online()
	d.set("step", "{aaaaaaaa-0000-4000-8000-000000000000}")
	response, err := p.runners.Deregister(d.ctx(), &runnerv1.DeregisterRequest{})
	if err != nil || response.GetGone() {
		t.Fatalf("got %v, %v, want it kept", response, err)
	}
	if d.status() != "DISABLED" || p.state().Counters.BusyRunnersDeleted != 0 {
		t.Errorf("status %q, %d busy deleted", d.status(), p.state().Counters.BusyRunnersDeleted)
	}
}

func TestDeregisterAfterTheScaledJobIsDeleted(t *testing.T) {
	p := start(t, quick(), nil)
	d := p.pod(p.group).online()
	p.Cluster.Remove(p.group.UID)
	p.until("the group to disappear", func() bool { return len(p.Groups()) == 0 })
	if response, err := p.runners.Deregister(d.ctx(), &runnerv1.DeregisterRequest{RunnerUuid: d.uuid}); err != nil || !response.GetGone() || d.status() != "" {
		t.Errorf("got %v, %v, status %q", response, err, d.status())
	}
}

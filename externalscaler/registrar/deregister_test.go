package registrar

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestARunnerIsDeletedOnlyIfItShowsNoStep(t *testing.T) {
	runner := func(s bitbucket.Status, step *bitbucket.Step) bitbucket.Runner {
		return bitbucket.Runner{UUID: "{r}", State: bitbucket.RunnerState{Status: s, Step: step}}
	}
	step := &bitbucket.Step{UUID: "{5}"}
	for name, c := range map[string]struct {
		found      bitbucket.Runner
		listed     *scope.Listed
		rechecked  bitbucket.Runner
		recheckErr error
		disableErr error
		want       codes.Code
		gone       bool
		did        []string
	}{
		"online, no step": {
			found: runner(bitbucket.StatusOnline, nil), rechecked: runner(bitbucket.StatusDisabled, nil),
			gone: true, did: []string{"disable {r}", "recheck", "delete {r}"},
		},
		"it shows a step still": {
			found: runner(bitbucket.StatusOnline, nil), rechecked: runner(bitbucket.StatusDisabled, step), did: []string{"disable {r}", "recheck"},
		},
		"offline, its step is stranded": {
			found: runner(bitbucket.StatusOnline, nil), rechecked: runner(bitbucket.StatusOffline, step),
			gone: true, did: []string{"disable {r}", "recheck", "delete {r}"},
		},
		"disabled and idle by a list that shows steps": {
			found: runner(bitbucket.StatusDisabled, nil), listed: &scope.Listed{Runner: runner(bitbucket.StatusDisabled, nil), ShowsSteps: true},
			gone: true, did: []string{"delete {r}"},
		},
		"disabled and idle by a list that shows none": {
			found: runner(bitbucket.StatusDisabled, nil), listed: &scope.Listed{Runner: runner(bitbucket.StatusDisabled, nil)}, rechecked: runner(bitbucket.StatusDisabled, step),
			did: []string{"recheck"},
		},
		"gone already": {
			found: runner(bitbucket.StatusOnline, nil), disableErr: bitbucket.ErrNotFound, recheckErr: bitbucket.ErrNotFound,
			gone: true, did: []string{"disable {r}", "recheck", "delete {r}"},
		},
		"Bitbucket cannot disable": {
			found: runner(bitbucket.StatusOnline, nil), disableErr: bitbucket.ErrDisableUnsupported, rechecked: runner(bitbucket.StatusOnline, nil),
			gone: true, did: []string{"disable {r}", "recheck", "delete {r}"},
		},
		"Bitbucket is away": {
			found: runner(bitbucket.StatusOnline, nil), disableErr: bitbucket.ErrUnavailable, want: codes.Unavailable, did: []string{"disable {r}"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := start(t, func(w *world) {
				w.found, w.foundIn, w.rechecked, w.recheckErr, w.disableErr = true, c.found, c.rechecked, c.recheckErr, c.disableErr
				if c.listed != nil {
					w.listed, w.isListed = *c.listed, true
				}
			})
			got, err := r.Deregister(with(t.Context(), "good"), &runnerv1.DeregisterRequest{})
			if status.Code(err) != c.want || got.GetGone() != c.gone || !slices.Equal(w.did, c.did) {
				t.Errorf("got %v, %v after %v; want gone %v, %v after %v", got, err, w.did, c.gone, c.want, c.did)
			}
			if !w.shown["pod-uid"] {
				t.Error("the pod still counts in the last snapshot")
			}
		})
	}
}

func TestAPodWithoutARunnerHasNothingToDeregister(t *testing.T) {
	r, w := start(t)
	if got, err := r.Deregister(with(t.Context(), "good"), &runnerv1.DeregisterRequest{}); err != nil || !got.GetGone() || len(w.did) > 0 {
		t.Errorf("got %v, %v after %v", got, err, w.did)
	}
}

func TestARegistrationIsRememberedForTheTimeWithoutAScaledJob(t *testing.T) {
	r, w := start(t)
	if _, err := r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{}); err != nil {
		t.Fatal(err)
	}
	w.group, w.rechecked = nil, bitbucket.Runner{UUID: "{r}"}
	if got, err := r.Deregister(with(t.Context(), "good"), &runnerv1.DeregisterRequest{RunnerUuid: "{another's}"}); err != nil || !got.GetGone() || len(w.did) > 0 {
		t.Errorf("another pod's runner: got %v, %v after %v", got, err, w.did)
	}
	if _, err := r.Deregister(with(t.Context(), "good"), &runnerv1.DeregisterRequest{RunnerUuid: "{r}"}); err != nil || !slices.Contains(w.did, "delete {r}") {
		t.Errorf("got %v after %v, want the pod's own runner deleted", err, w.did)
	}
	if len(r.registered) != 0 {
		t.Errorf("%v is remembered of a runner that is gone", r.registered)
	}
}

func TestHowARunnerHasLivedIsMeasuredWhenItIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		report fleet.Telemetry
		step   *bitbucket.Step
		lived  []time.Duration
		ran    []uint32
	}{
		"two steps":    {report: fleet.Telemetry{RunnerUUID: "{r}", StepsBegun: 2}, lived: []time.Duration{time.Hour}, ran: []uint32{2}},
		"none":         {report: fleet.Telemetry{RunnerUUID: "{r}"}, lived: []time.Duration{time.Hour}, ran: []uint32{0}},
		"not attached": {lived: []time.Duration{time.Hour}},
		"unrecognized": {report: fleet.Telemetry{RunnerUUID: "{r}", Unrecognized: true}, lived: []time.Duration{time.Hour}},
		"not gone yet": {report: fleet.Telemetry{RunnerUUID: "{r}"}, step: &bitbucket.Step{UUID: "{5}"}},
	} {
		t.Run(name, func(t *testing.T) {
			runner := bitbucket.Runner{UUID: "{r}", CreatedOn: time.Now().Add(-time.Hour), State: bitbucket.RunnerState{Status: bitbucket.StatusOnline}}
			r, w := start(t, func(w *world) {
				w.found, w.foundIn, w.rechecked = true, runner, bitbucket.Runner{UUID: "{r}", State: bitbucket.RunnerState{Status: bitbucket.StatusDisabled, Step: c.step}}
				m := &w.group.Members[0]
				m.Runner, m.Age, m.Telemetry = &runner, time.Hour, c.report
			})
			if _, err := r.Deregister(with(t.Context(), "good"), &runnerv1.DeregisterRequest{}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(w.lived, c.lived) || !slices.Equal(w.ran, c.ran) {
				t.Errorf("lived %v, ran %v; want %v and %v", w.lived, w.ran, c.lived, c.ran)
			}
		})
	}
}

package registrar

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestARegisteredRunnersEnvironment(t *testing.T) {
	r, w := start(t)
	got, err := r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"ACCOUNT_UUID": "{w}", "RUNNER_UUID": "{r}", "RUNTIME_PREREQUISITES_ENABLED": "true", "WORKING_DIRECTORY": "/tmp",
		"OAUTH_CLIENT_ID": "id", "OAUTH_CLIENT_SECRET": "secret", "OAUTH_TOKEN_ENDPOINT": "",
	}
	if diff := cmp.Diff(want, got.GetRunner().GetEnvironment()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	place := got.GetRunner().GetPlace()
	if place.GetCredentials() != "default" || place.GetWorkspaceUuid() != "{w}" || got.GetRunner().GetName() != w.group.Members[0].Name {
		t.Errorf("got %v", got.GetRunner())
	}
	request := w.requests[0]
	if request.Max != 2 || !slices.Contains(request.Runner.Labels, owner) || !slices.Contains(request.Runner.Labels, "a") {
		t.Errorf("asked for %+v", request)
	}
	if !slices.Equal(w.asked, []string{"pod-uid"}) || !slices.Equal(w.counted, []string{"registered"}) {
		t.Errorf("asked %v, counted %v", w.asked, w.counted)
	}
}

func TestWhoIsRefused(t *testing.T) {
	away := errors.New("the API server is away")
	for name, c := range map[string]struct {
		edit    func(*world)
		token   string
		want    codes.Code
		counted string
	}{
		"a wrong token":   {func(*world) {}, "bad", codes.Unauthenticated, "unauthenticated"},
		"no review":       {func(w *world) { w.reviewErr = away }, "good", codes.Unavailable, "unreviewed"},
		"a pod of nobody": {func(w *world) { w.group = nil }, "good", codes.NotFound, "no_group"},
		"a pod of a faulty group": {func(w *world) {
			w.group, w.faulty = nil, map[fleet.GroupKey]error{{Namespace: "ns", Name: "builds"}: away}
		}, "good", codes.InvalidArgument, "invalid_group"},
		"another namespace's fault": {func(w *world) {
			w.group, w.faulty = nil, map[fleet.GroupKey]error{{Namespace: "else", Name: "builds"}: away}
		}, "good", codes.NotFound, "no_group"},
		"nothing current is known": {func(w *world) { w.groupErr = scope.ErrNoList }, "good", codes.Unavailable, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := start(t, c.edit)
			_, err := r.Register(with(t.Context(), c.token), &runnerv1.RegisterRequest{})
			if status.Code(err) != c.want || !slices.Equal(w.counted, []string{c.counted}) || len(w.requests) > 0 {
				t.Errorf("got %v, counted %v, want %v, %s", err, w.counted, c.want, c.counted)
			}
		})
	}
}

func TestWhatTheScopesAnswerMeansForASidecar(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		want    codes.Code
		delay   time.Duration
		counted string
	}{
		"an earlier try is pending":    {scope.ErrOutcomePending, codes.Unavailable, 5 * time.Second, "ambiguous"},
		"the outcome is unknown":       {fmt.Errorf("POST: %w", bitbucket.ErrOutcomeUnknown), codes.Unavailable, 0, "ambiguous"},
		"not allowed to write yet":     {scope.ErrNotWritable, codes.Unavailable, 2 * time.Second, "failed"},
		"throttled":                    {&bitbucket.RateLimitedError{RetryAfter: time.Minute}, codes.ResourceExhausted, time.Minute, "failed"},
		"throttled for a moment":       {&bitbucket.RateLimitedError{RetryAfter: time.Second}, codes.ResourceExhausted, 15 * time.Second, "failed"},
		"no budget":                    {bitbucket.ErrBudgetExhausted, codes.ResourceExhausted, 15 * time.Second, "failed"},
		"Bitbucket's own limit":        {bitbucket.ErrRunnerLimit, codes.ResourceExhausted, 15 * time.Second, "failed"},
		"a scope is missing":           {bitbucket.ErrMissingScope, codes.PermissionDenied, 0, "failed"},
		"Bitbucket is away":            {bitbucket.ErrUnavailable, codes.Unavailable, 0, "failed"},
		"a runner that may be running": {&runnerExistsError{}, codes.FailedPrecondition, 0, "runner_exists"},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := start(t, func(w *world) { w.registered = []error{c.err} })
			_, err := r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{})
			var delay time.Duration
			for _, detail := range status.Convert(err).Details() {
				if info, ok := detail.(*errdetails.RetryInfo); ok {
					delay = info.GetRetryDelay().AsDuration()
				}
			}
			if status.Code(err) != c.want || delay != c.delay || !slices.Equal(w.counted, []string{c.counted}) {
				t.Errorf("got %v after %v, counted %v; want %v after %v, %s", err, delay, w.counted, c.want, c.delay, c.counted)
			}
		})
	}
}

func TestAPodThatIsNotNeededFinishes(t *testing.T) {
	for name, edit := range map[string]func(*world){
		"the group is at its max": func(w *world) { w.registered = []error{&scope.AtMaxError{Live: 2, Max: 2}} },
		"it was told to end":      func(w *world) { w.group.Members[0].State = fleet.Gone; w.stopping["pod-uid"] = true },
		"it was just told to end": func(w *world) { w.stopping["pod-uid"] = true },
	} {
		t.Run(name, func(t *testing.T) {
			r, w := start(t, edit)
			got, err := r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{})
			if err != nil || got.GetFinish().GetReason() == "" || !w.stopping["pod-uid"] || !slices.Equal(w.counted, []string{"finished"}) {
				t.Errorf("got %v, %v, counted %v, want it to finish and to count for nothing", got, err, w.counted)
			}
		})
	}
}

func TestWhichRunnersOfAGroupAreLive(t *testing.T) {
	r, _ := start(t, func(w *world) {
		w.group.Members = append(w.group.Members,
			fleet.Member{Pod: &fleet.Pod{}, Name: "busy", State: fleet.Busy}, fleet.Member{Pod: &fleet.Pod{}, Name: "gone", State: fleet.Gone})
	})
	request, err := r.slotRequest(acme, Identity{PodUID: "pod-uid"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"busy": true, "gone": false, "another group's": false} {
		if got := request.Live(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if _, err := r.slotRequest(scope.ID{}, Identity{PodUID: "pod-uid"}); !errors.Is(err, errGroupChanged) {
		t.Errorf("a group that moved to another scope: got %v, want %v", err, errGroupChanged)
	}
}

func TestWhichExistingRunnersAreReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		status   bitbucket.Status
		activity fleet.Activity
		want     bool
	}{
		"never connected":                {bitbucket.StatusUnregistered, fleet.ActivityUnknown, true},
		"its process starts":             {bitbucket.StatusUnregistered, fleet.ActivityStarting, true},
		"its process says it is idle":    {bitbucket.StatusUnregistered, fleet.ActivityIdle, false},
		"its process says it has a step": {bitbucket.StatusUnregistered, fleet.ActivityBusy, false},
		"online":                         {bitbucket.StatusOnline, fleet.ActivityUnknown, false},
		"offline":                        {bitbucket.StatusOffline, fleet.ActivityUnknown, false},
	} {
		if err := replaceable(bitbucket.Runner{State: bitbucket.RunnerState{Status: c.status}}, c.activity); (err == nil) != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestTheSlotOfAnOfflineRunnerWithoutAPodIsReclaimed(t *testing.T) {
	offline := bitbucket.Runner{UUID: "{o}", Name: scope.RunnerName("old-pod", "old-uid"), State: bitbucket.RunnerState{Status: bitbucket.StatusOffline}}
	online := offline
	online.State.Status = bitbucket.StatusOnline
	for name, c := range map[string]struct {
		edit func(*world)
		want codes.Code
		did  []string
	}{
		"one without a pod":        {func(*world) {}, codes.OK, []string{"recheck", "delete {o}"}},
		"none":                     {func(w *world) { w.podless = nil }, codes.ResourceExhausted, nil},
		"one in another scope":     {func(w *world) { w.podless[0].Scope.Credentials = "other" }, codes.ResourceExhausted, nil},
		"one that is online":       {func(w *world) { w.podless[0].Runner = online }, codes.ResourceExhausted, nil},
		"one that came back":       {func(w *world) { w.rechecked = online }, codes.ResourceExhausted, []string{"recheck"}},
		"one that has a pod":       {func(w *world) { w.livePods = []fleet.Pod{{Name: "old-pod", UID: "old-uid"}} }, codes.ResourceExhausted, nil},
		"one that cannot be read ": {func(w *world) { w.recheckErr = bitbucket.ErrUnavailable }, codes.ResourceExhausted, []string{"recheck"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := start(t, func(w *world) {
				w.registered = []error{&scope.FullError{Registered: 100}}
				w.podless, w.rechecked = []fleet.Podless{{Scope: acme, Runner: offline}}, offline
			}, c.edit)
			_, err := r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{})
			if status.Code(err) != c.want || !slices.Equal(w.did, c.did) {
				t.Errorf("got %v after %v, want %v after %v", err, w.did, c.want, c.did)
			}
		})
	}
}

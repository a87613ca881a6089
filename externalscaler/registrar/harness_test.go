package registrar

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const owner = "keda.test"

// acme is the scope of the test's group.
var acme = scope.ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: "acme"}}

// world is all that a Registrar asks and tells, in memory: one group with one pod.
type world struct {
	group    *fleet.GroupSnapshot
	groupErr error
	faulty   map[fleet.GroupKey]error
	podless  []fleet.Podless
	livePods []fleet.Pod

	reviewErr error

	reports  []fleet.Telemetry
	detached []string
	stopping map[string]bool
	shown    map[string]bool // the pods that are stopping, as of the last snapshot
	asked    []string
	refused  string

	// The scope: what Register returns, once for each call, and what Recheck shows.
	registered []error
	requests   []scope.SlotRequest
	rechecked  bitbucket.Runner
	recheckErr error
	listed     scope.Listed
	isListed   bool
	found      bool
	foundIn    bitbucket.Runner
	disableErr error
	did        []string // what was written

	counted []string
	lived   []time.Duration
	ran     []uint32
	// wait delays every Job; ended are the runners whose end was noted.
	wait  time.Duration
	ended []crashloop.End
}

func (w *world) Admit(*fleet.GroupSnapshot, *fleet.Job) error {
	if w.wait == 0 {
		return nil
	}
	return &crashloop.WaitError{State: crashloop.State{Failures: 3, Wait: w.wait}}
}

func (w *world) Ended(_ *fleet.GroupSnapshot, end crashloop.End) { w.ended = append(w.ended, end) }

func (w *world) Lived(_ fleet.GroupKey, took time.Duration) { w.lived = append(w.lived, took) }
func (w *world) Ran(_ fleet.GroupKey, steps uint32)         { w.ran = append(w.ran, steps) }

func (w *world) Wait() <-chan struct{} {
	closed := make(chan struct{})
	close(closed)
	return closed
}

func (w *world) Member(podUID string) (*fleet.GroupSnapshot, fleet.Member, bool) {
	if w.group == nil {
		return nil, fleet.Member{}, false
	}
	for _, m := range w.group.Members {
		if m.Pod.UID == podUID {
			return w.group, m, true
		}
	}
	return nil, fleet.Member{}, false
}

func (w *world) HasPod(podUID string) bool {
	_, _, ok := w.Member(podUID)
	return ok
}

func (w *world) Group(fleet.GroupKey) (*fleet.GroupSnapshot, error) { return w.group, w.groupErr }
func (w *world) Faulty() map[fleet.GroupKey]error                   { return w.faulty }
func (w *world) Podless() []fleet.Podless                           { return w.podless }
func (w *world) Sync(context.Context) error                         { w.shown = maps.Clone(w.stopping); return nil }
func (w *world) LivePods(context.Context) ([]fleet.Pod, error)      { return w.livePods, nil }

func (w *world) Report(_ string, report fleet.Telemetry) { w.reports = append(w.reports, report) }
func (w *world) Detach(podUID string)                    { w.detached = append(w.detached, podUID) }
func (w *world) NoteRefusal(_, why string)               { w.refused = why }
func (w *world) NoteRegisterRequest(podUID string)       { w.asked = append(w.asked, podUID) }
func (w *world) MarkStopping(podUID string)              { w.stopping[podUID] = true }
func (w *world) IsStopping(podUID string) bool           { return w.stopping[podUID] }

func (w *world) Review(_ context.Context, token string) (Identity, error) {
	if w.reviewErr != nil {
		return Identity{}, w.reviewErr
	}
	if token != "good" {
		return Identity{}, ErrToken
	}
	return Identity{Namespace: "ns", PodName: "builds-1-pod", PodUID: "pod-uid"}, nil
}

func (w *world) Register(_ context.Context, id scope.ID, decide func() (scope.SlotRequest, error)) (scope.Registered, error) {
	request, err := decide()
	if err != nil {
		return scope.Registered{}, err
	}
	w.requests = append(w.requests, request)
	if len(w.registered) > 0 {
		err, w.registered = w.registered[0], w.registered[1:]
	}
	var atMax *scope.AtMaxError
	if errors.As(err, &atMax) {
		request.AtMax()
	}
	if err != nil {
		return scope.Registered{}, err
	}
	return scope.Registered{
		Runner: bitbucket.Runner{UUID: "{r}", Name: request.Runner.Name, OAuthClient: &bitbucket.OAuthClient{ID: "id", Secret: "secret"}},
		Scope:  bitbucket.Scope{Workspace: "{w}", Repository: id.Scope.Repository},
	}, nil
}

func (w *world) Disable(_ context.Context, _ scope.ID, runner bitbucket.Runner) error {
	w.did = append(w.did, "disable "+runner.UUID)
	return w.disableErr
}

func (w *world) Delete(_ context.Context, _ scope.ID, runner bitbucket.Runner) error {
	w.did = append(w.did, "delete "+runner.UUID)
	return nil
}

func (w *world) FindRunner(_, _ string) (scope.ID, bitbucket.Runner, bool) {
	return acme, w.foundIn, w.found
}
func (w *world) Listed(scope.ID, string) (scope.Listed, bool) { return w.listed, w.isListed }
func (w *world) Recheck(context.Context, scope.ID, string) (bitbucket.Runner, error) {
	w.did = append(w.did, "recheck")
	return w.rechecked, w.recheckErr
}

// start makes a Registrar in a world with one group and one pod, which the edits
// change.
func start(t *testing.T, edits ...func(*world)) (*Registrar, *world) {
	t.Helper()
	spec, err := runnergroup.Parse(map[string]string{"workspace": "acme", "labels": "a", "max": "2"})
	if err != nil {
		t.Fatal(err)
	}
	pod := &fleet.Pod{Namespace: "ns", Name: "builds-1-pod", UID: "pod-uid"}
	w := &world{stopping: map[string]bool{}, group: &fleet.GroupSnapshot{
		GroupKey: fleet.GroupKey{Namespace: "ns", Name: "builds"}, Spec: spec, Scope: acme,
		Members: []fleet.Member{{Job: &fleet.Job{UID: "job"}, Pod: pod, Name: scope.RunnerName(pod.Name, pod.UID), Scope: acme}},
	}}
	for _, edit := range edits {
		edit(w)
	}
	return New(Config{
		Owner: owner, Snapshots: w, Telemetry: w, Writer: w, Runners: w, Reviewer: w, Pods: w, CrashLoops: w, MemberWait: 1, Measures: w,
		Count: func(outcome string) {
			if !slices.Contains(Outcomes(), outcome) {
				t.Errorf("outcome %s is not one of %q", outcome, Outcomes())
			}
			w.counted = append(w.counted, outcome)
		},
	}), w
}

// with gives a call a token.
func with(ctx context.Context, token string) context.Context {
	return metadata.NewIncomingContext(ctx, metadata.Pairs("authorization", "Bearer "+token))
}

package reaper

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// world is all that a Reaper asks and does, in memory: one group.
type world struct {
	group *fleet.GroupSnapshot
	// registered are the names of runners in the scope, beyond what the group shows.
	registered []string
	// changes are applied to the group one by one: at each look for the newest snapshot.
	changes []func(*fleet.Member)
	// jobChanged is true if the API server has a newer version of the Job.
	jobChanged bool
	// deleteErr is the answer of the API server to the deletion of a Job.
	deleteErr error
	did       []string
	// shown is what had been done when the last snapshot was made, and shownAtDeletion when the last Job was deleted.
	shown, shownAtDeletion []string
}

func (w *world) Wait() <-chan struct{}          { return nil }
func (w *world) OrphanedPods() []fleet.Member   { return nil }
func (w *world) Podless() []fleet.Podless       { return nil }
func (w *world) Groups() []*fleet.GroupSnapshot { return []*fleet.GroupSnapshot{w.group} }
func (w *world) Group(fleet.GroupKey) (*fleet.GroupSnapshot, error) {
	return w.group, nil
}

func (w *world) Sync(context.Context) error {
	w.shown = slices.Clone(w.did)
	if len(w.changes) > 0 {
		members := slices.Clone(w.group.Members)
		w.changes[0](&members[0])
		next := *w.group
		next.Members, w.group, w.changes = members, &next, w.changes[1:]
	}
	return nil
}

func (w *world) MarkStopping(podUID string)   { w.did = append(w.did, "finish "+podUID) }
func (w *world) UnmarkStopping(podUID string) { w.did = append(w.did, "go on with "+podUID) }
func (w *world) MarkReplaced(podUID string)   { w.did = append(w.did, "replace "+podUID) }
func (w *world) UnmarkReplaced(podUID string) { w.did = append(w.did, "keep "+podUID) }
func (w *world) Stop(podUID, _ string) bool   { w.did = append(w.did, "stop "+podUID); return true }
func (w *world) Drain(string, string)         {}
func (w *world) Refresh(scope.ID)             {}

func (w *world) Decide(fleet.GroupKey) (policy.Decision, error) { return policy.Decision{}, nil }

func (w *world) Disable(_ context.Context, _ scope.ID, runner bitbucket.Runner) error {
	w.did = append(w.did, "disable "+runner.UUID)
	return nil
}

func (w *world) Delete(_ context.Context, _ scope.ID, runner bitbucket.Runner) error {
	w.did = append(w.did, "delete "+runner.UUID)
	return nil
}

func (w *world) WhileUnregistered(ctx context.Context, _ scope.ID, name string, do func(context.Context) error) error {
	if name != "" && slices.Contains(w.registered, name) {
		return nil
	}
	return do(ctx)
}

func (w *world) Recheck(context.Context, scope.ID, string) (bitbucket.Runner, error) {
	return bitbucket.Runner{}, nil
}

func (w *world) DeleteJob(_ context.Context, _, name, _ string) error {
	w.did = append(w.did, "delete Job "+name)
	w.shownAtDeletion = w.shown
	return w.deleteErr
}

func (w *world) DeleteUnchangedJob(_ context.Context, job fleet.Job) (bool, error) {
	if w.jobChanged {
		return false, nil
	}
	w.did = append(w.did, "delete Job "+job.Name)
	return true, nil
}

func TestAJobWithoutARunnerIsLookedUpAgainBeforeItEnds(t *testing.T) {
	withPod := func(m *fleet.Member) {
		m.Pod, m.Name = &fleet.Pod{Namespace: "ns", Name: "late", UID: "late"}, "late"
	}
	registered := func(m *fleet.Member) { withPod(m); m.State = fleet.Busy; m.Runner = &bitbucket.Runner{UUID: "{r}"} }
	askedNow := func(m *fleet.Member) { m.AskedLast = now }
	same := func(*fleet.Member) {}
	podless := one("", fleet.Pending, noRunner, noPod)
	podless.Job.Name, podless.Job.UID = "job", "job-uid"
	waiting := one("job", fleet.Pending, noRunner, asked(time.Minute))
	for name, c := range map[string]struct {
		kind   kind
		member fleet.Member
		edit   func(*world)
		want   []string
	}{
		"it is as it was":                       {deleteUnregistered, podless, func(*world) {}, []string{"delete Job job"}},
		"its runner is busy by now":             {deleteUnregistered, podless, func(w *world) { w.changes = []func(*fleet.Member){registered} }, nil},
		"its runner came while it was locked":   {deleteUnregistered, podless, func(w *world) { w.changes = []func(*fleet.Member){same, registered} }, nil},
		"it has a pod by now, whose runner is":  {deleteUnregistered, podless, func(w *world) { w.changes = []func(*fleet.Member){withPod}; w.registered = []string{"late"} }, nil},
		"its pod came while it was locked":      {deleteUnregistered, podless, func(w *world) { w.changes = []func(*fleet.Member){same, withPod} }, nil},
		"its pod asks by now":                   {deleteUnregistered, podless, func(w *world) { w.changes = []func(*fleet.Member){askedNow} }, nil},
		"the watch lags behind the API server":  {deleteUnregistered, podless, func(w *world) { w.jobChanged = true }, nil},
		"it is gone":                            {deleteUnregistered, podless, func(w *world) { w.group.Members = nil }, nil},
		"it waits for a slot":                   {finishUnregistered, waiting, func(*world) {}, []string{"finish job-pod"}},
		"it waited for a slot, and has got one": {finishUnregistered, waiting, func(w *world) { w.registered = []string{"job"} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := seen(t, nil, c.member)
			w := &world{group: s.group}
			c.edit(w)
			r := New(Config{Snapshots: w, Marks: w, Decider: w, Writer: w, Runners: w, Sidecars: w, Jobs: w})
			if _, err := r.perform(t.Context(), of(s.group), action{c.kind, c.member, removal{ReasonUnwanted, "test"}}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(w.did, c.want) {
				t.Errorf("did %q, want %q", w.did, c.want)
			}
		})
	}
}

func TestAJobIsDeletedOnceItCountsNoMore(t *testing.T) {
	away := errors.New("the API server is away")
	for name, c := range map[string]struct {
		state fleet.State
		err   error
		shown []string
		want  []string
	}{
		"a lost one":               {fleet.Lost, nil, []string{"finish r-pod"}, []string{"finish r-pod", "delete Job r"}},
		"it cannot be deleted":     {fleet.Lost, away, []string{"finish r-pod"}, []string{"finish r-pod", "delete Job r", "go on with r-pod"}},
		"one that was told to end": {fleet.Gone, nil, nil, []string{"delete Job r"}},
		"that cannot be deleted":   {fleet.Gone, away, nil, []string{"delete Job r"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := one("r", c.state)
			s := seen(t, nil, m)
			w := &world{group: s.group, deleteErr: c.err}
			r := New(Config{Snapshots: w, Marks: w, Decider: w, Writer: w, Runners: w, Sidecars: w, Jobs: w})
			_, err := r.perform(t.Context(), of(s.group), action{deleteJob, m, removal{ReasonLost, "test"}})
			if !errors.Is(err, c.err) || !slices.Equal(w.did, c.want) || !slices.Equal(w.shownAtDeletion, c.shown) {
				t.Errorf("got %v, did %q, of which a snapshot showed %q before the deletion; want %v, %q and %q", err, w.did, w.shownAtDeletion, c.err, c.want, c.shown)
			}
		})
	}
}

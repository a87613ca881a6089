package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

func TestSlugAndUUIDAreOneScope(t *testing.T) {
	at := time.Unix(1000, 0)
	r := start(t, Config{PollInterval: 20 * time.Millisecond, MaxStaleness: time.Hour, Kubernetes: cluster{[]ScaledJob{
		{GroupKey: GroupKey{"ns", "slug"}, UID: "1", CreatedOn: at, Metadata: of("acme", "", "one")},
		{GroupKey: GroupKey{"ns", "uuid"}, UID: "2", CreatedOn: at.Add(1), Metadata: of(emulator.WorkspaceUUID, "", "two")},
		{GroupKey: GroupKey{"ns", "twin"}, UID: "3", CreatedOn: at.Add(2), Metadata: of(emulator.WorkspaceUUID, "", "one")},
	}}})
	r.until("both to share one scope", func() bool {
		groups := r.Groups()
		return len(groups) == 2 && groups[0].Scope == groups[1].Scope && !groups[0].ListBegun.IsZero() && !groups[1].ListBegun.IsZero()
	})
	var duplicate *DuplicateError
	if err := r.Faulty()[GroupKey{"ns", "twin"}]; !errors.As(err, &duplicate) || duplicate.Other.Name != "slug" {
		t.Errorf("the younger of twins: got %v", err)
	}
	if n := len(r.snapshot.Load().scopes); n != 1 {
		t.Errorf("%d scopes are polled, want 1", n)
	}
}

func TestConcurrentRefreshesAreOneListAndHintsKeepTheFloor(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := start(t, Config{Clock: clk, PollInterval: time.Hour, MaxStaleness: 24 * time.Hour})
	group, err := r.call("g", of("acme", "", "one"))
	if err != nil {
		t.Fatal(err)
	}
	before := r.lists()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := group.Scope.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	r.until("all to wait", func() bool {
		group.Scope.mu.Lock()
		defer group.Scope.mu.Unlock()
		return len(group.Scope.waiters) == 20
	})
	clk.Step(9 * time.Second)
	if n := r.lists(); n != before {
		t.Errorf("%d lists within 10 s of the first", n-before)
	}
	served := make(chan struct{})
	go func() { all.Wait(); close(served) }()
	r.until("all to be served", func() bool {
		clk.Step(2 * time.Second)
		select {
		case <-served:
			return true
		default:
			return false
		}
	})
	if n := r.lists(); n != before+1 {
		t.Errorf("%d lists for 20 that waited at once, want 1", n-before)
	}
}

func TestRefreshEndsWithItsContext(t *testing.T) {
	r := start(t, Config{PollInterval: time.Hour, RetryInterval: time.Hour})
	group, err := r.call("g", of("acme", "", "one"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := group.Scope.Refresh(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := group.Scope.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := group.Scope.Lock(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a second one got %v while the first registers", err)
	}
	group.Scope.Unlock()
}

func TestOldListIsNotActedOn(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := start(t, Config{Clock: clk, PollInterval: time.Minute, MaxStaleness: time.Minute})
	if _, err := r.call("g", of("acme", "", "one")); err != nil {
		t.Fatal(err)
	}
	if err := r.control.SetFaults(t.Context(), []emulator.FaultRule{{Path: "*", Status: 503}}); err != nil {
		t.Fatal(err)
	}
	key := GroupKey{"ns", "g"}
	clk.Step(170 * time.Second)
	if _, err := r.Group(key); err != nil {
		t.Errorf("within three intervals: got %v", err)
	}
	r.until("Bitbucket's own answer", func() bool {
		clk.Step(5 * time.Second)
		_, err := r.Group(key)
		return errors.Is(err, ErrNoList) && errors.Is(err, bitbucket.ErrUnavailable)
	})
}

func TestScopesKnownFromCallsAreBoundedAndExpire(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := start(t, Config{Clock: clk, MaxScopes: 2})
	for _, repository := range []string{"", "app"} {
		if _, err := r.call("of"+repository, of("acme", repository, "one")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.call("web", of("acme", "web", "one")); !errors.Is(err, ErrTooManyScopes) {
		t.Fatalf("a third scope: got %v", err)
	}
	for i := 3; i < groupsAScope*2; i++ {
		if _, err := r.call(fmt.Sprint(i), of("acme", "", "one")); err != nil {
			t.Fatalf("group %d: %v", i, err)
		}
	}
	if _, err := r.call("one more", of("acme", "", "one")); !errors.Is(err, ErrTooManyScopes) {
		t.Errorf("a group beyond the bound: got %v", err)
	}
	clk.Step(10*time.Minute + time.Second)
	r.until("all to be dropped", func() bool { return len(r.Groups()) == 0 && len(r.snapshot.Load().scopes) == 0 })
	if _, err := r.call("web", of("acme", "web", "one")); err != nil {
		t.Errorf("after the others expired: got %v", err)
	}
}

func TestRunnersThatVanishInABodyAreBelievedGoneOnlyAfterASecondLook(t *testing.T) {
	r := start(t, Config{PollInterval: 20 * time.Millisecond, MaxStaleness: time.Hour, WriteSettle: time.Millisecond})
	group, err := r.call("g", of("acme", "", "one"))
	if err != nil {
		t.Fatal(err)
	}
	scope := group.Scope
	var created []bitbucket.Runner
	for i := range 4 {
		runner, err := scope.Create(t.Context(), bitbucket.NewRunner{Name: fmt.Sprint("r", i), Labels: group.Spec.RunnerLabels("keda.test")})
		if err != nil {
			t.Fatal(err)
		}
		created = append(created, runner)
	}
	listed := func() bool { _, _, ok := scope.Listed(created[3].UUID); return ok }
	r.until("a list to show them", listed)
	if err := r.control.SetFaults(t.Context(), []emulator.FaultRule{{Method: "GET", Path: "*/pipelines-config/runners", EmptyList: true}}); err != nil {
		t.Fatal(err)
	}
	before := r.lists()
	r.until("five empty lists", func() bool { return r.lists() > before+5 })
	if n := len(scope.Runners()); n != 4 {
		t.Errorf("%d runners are known after empty lists, want 4", n)
	}
	if err := scope.Refresh(t.Context()); !errors.Is(err, ErrNoList) {
		t.Errorf("a refresh by an empty list: got %v", err)
	}
	for _, runner := range created { // by somebody else
		if err := r.client.DeleteRunner(t.Context(), scope.Resolved(), runner.UUID); err != nil {
			t.Fatal(err)
		}
	}
	r.until("their deletion to be believed", func() bool { return len(scope.Runners()) == 0 })
}

func TestWritesAreSeenBeforeAListShowsThem(t *testing.T) {
	r := start(t, Config{PollInterval: time.Hour})
	group, err := r.call("g", of("acme", "", "one"))
	if err != nil {
		t.Fatal(err)
	}
	scope := group.Scope
	runner, err := scope.Create(t.Context(), bitbucket.NewRunner{Name: "r", Labels: group.Spec.RunnerLabels("keda.test")})
	if err != nil {
		t.Fatal(err)
	}
	known := scope.Runners()
	if len(known) != 1 || known[0].OAuthClient != nil {
		t.Fatalf("got %+v, want the runner without its secret", known)
	}
	if err := scope.Disable(t.Context(), runner); err != nil {
		t.Fatal(err)
	}
	if got := scope.Runners()[0].State.Status; got != bitbucket.StatusDisabled {
		t.Errorf("status %s", got)
	}
	if _, _, ok := scope.Listed(runner.UUID); ok {
		t.Error("what was written counts as what a list showed")
	}
	if err := scope.Delete(t.Context(), runner); err != nil {
		t.Fatal(err)
	}
	scope.record(write{runner: runner}) // a disable that ended after the deletion
	if known := scope.Runners(); len(known) != 0 {
		t.Errorf("a late write brought %+v back", known)
	}
}

func TestPodsOwnRunnerAmongTwins(t *testing.T) {
	a, b := &bitbucket.Runner{UUID: "a"}, &bitbucket.Runner{UUID: "b"}
	a.State.Status, b.State.Status = bitbucket.StatusUnregistered, bitbucket.StatusOnline
	for name, c := range map[string]struct {
		named    []*bitbucket.Runner
		reported string
		want     *bitbucket.Runner
	}{
		"none":                     {},
		"the reported one":         {[]*bitbucket.Runner{a, b}, "a", a},
		"the connected one":        {[]*bitbucket.Runner{a, b}, "", b},
		"the connected one, first": {[]*bitbucket.Runner{b, a}, "", b},
	} {
		if got := own(c.named, c.reported); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestEveryFaultOfTheConfigurationIsTold(t *testing.T) {
	_, err := New(Config{PollInterval: -1, MaxStaleness: -1, WriteSettle: -1})
	var missing []string
	for _, want := range []string{"owner label", "client", "poll interval", "max staleness", "write settle"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			missing = append(missing, want)
		}
	}
	if diff := cmp.Diff([]string(nil), slices.Clip(missing)); diff != "" {
		t.Errorf("%v lacks %s", err, diff)
	}
}

func TestAListThatLacksAKnownStepProvesNothing(t *testing.T) {
	begun := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	runner := bitbucket.Runner{UUID: "{r}", State: bitbucket.RunnerState{Status: bitbucket.StatusOnline}}
	for name, c := range map[string]struct {
		since    time.Duration
		activity Activity
		attached bool
		step     *bitbucket.Step
		want     bool
	}{
		"busy since long before the list": {since: -sureAfter - time.Second, activity: ActivityBusy, attached: true, want: true},
		"busy since a moment before":      {since: -time.Second, activity: ActivityBusy, attached: true},
		"busy, and the list shows it":     {since: -time.Hour, activity: ActivityBusy, attached: true, step: &bitbucket.Step{UUID: "{s}"}},
		"busy when it was last heard":     {since: -time.Hour, activity: ActivityBusy},
		"idle":                            {since: -time.Hour, activity: ActivityIdle, attached: true},
	} {
		t.Run(name, func(t *testing.T) {
			shown := runner
			shown.State.Step = c.step
			m := Member{Runner: &shown, Telemetry: Telemetry{Attached: c.attached, Activity: c.activity, Since: begun.Add(c.since)}}
			if got := m.contradicts(begun); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
	s := newScope("default", bitbucket.Scope{Workspace: "acme"}, nil, Config{}.withDefaults(), func() {})
	s.list, s.stepSeen = &bitbucket.RunnerList{Begun: begun}, true
	s.doubtSteps(begun.Add(-time.Second))
	if !s.view().stepSeen {
		t.Error("an older list's fault was put on a newer one")
	}
	s.doubtSteps(begun)
	if s.view().stepSeen {
		t.Error("lists without a known step are still believed")
	}
}

func TestOneListAloneMakesNoRunnerVanish(t *testing.T) {
	s := newScope("default", bitbucket.Scope{Workspace: "acme"}, nil, Config{Owner: "keda.test"}.withDefaults(), func() {})
	begun := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	list := func(uuids ...string) {
		begun = begun.Add(time.Minute)
		var runners []bitbucket.Runner
		for _, uuid := range uuids {
			runners = append(runners, bitbucket.Runner{UUID: uuid, Labels: []string{"keda.test"}})
		}
		s.accept(t.Context(), bitbucket.RunnerList{Runners: runners, Begun: begun})
	}
	known := func() (uuids []string) {
		for _, runner := range s.Runners() {
			uuids = append(uuids, runner.UUID)
		}
		slices.Sort(uuids)
		return uuids
	}
	for i, c := range []struct{ listed, want []string }{
		{[]string{"{a}", "{b}"}, []string{"{a}", "{b}"}},
		{nil, []string{"{a}", "{b}"}},
		{[]string{"{a}"}, []string{"{a}"}},
		{[]string{"{a}"}, []string{"{a}"}},
		{nil, []string{"{a}"}},
		{nil, nil},
	} {
		list(c.listed...)
		if got := known(); !slices.Equal(got, c.want) {
			t.Errorf("list %d: got %v, want %v", i, got, c.want)
		}
	}
	if _, _, ok := s.Listed("{a}"); ok {
		t.Error("what no list shows is said to be listed")
	}
}

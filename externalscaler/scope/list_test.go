package scope

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

// listed is a scope without a poller, of which a test gives the lists.
type listed struct {
	*scope
	begun time.Time
}

func newListed() *listed {
	return &listed{newScope(acme(), nil, Config{Owner: owner}.withDefaults(), func() {}), time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)}
}

// list gives the next list, of our runners with these UUIDs, a minute after the last.
func (l *listed) list(t *testing.T, uuids ...string) {
	l.begun = l.begun.Add(time.Minute)
	var runners []bitbucket.Runner
	for _, uuid := range uuids {
		runners = append(runners, bitbucket.Runner{UUID: uuid, Labels: []string{owner}})
	}
	l.accept(t.Context(), bitbucket.RunnerList{Runners: runners, Begun: l.begun})
}

func (l *listed) uuids() (uuids []string) {
	for _, runner := range l.now().Runners {
		uuids = append(uuids, runner.UUID)
	}
	slices.Sort(uuids)
	return uuids
}

func TestOneListAloneMakesNoRunnerVanish(t *testing.T) {
	s := newListed()
	for i, c := range []struct{ listed, want []string }{
		{[]string{"{a}", "{b}"}, []string{"{a}", "{b}"}},
		{nil, []string{"{a}", "{b}"}},
		{[]string{"{a}"}, []string{"{a}"}},
		{[]string{"{a}"}, []string{"{a}"}},
		{nil, []string{"{a}"}},
		{nil, nil},
	} {
		s.list(t, c.listed...)
		if got := s.uuids(); !slices.Equal(got, c.want) {
			t.Errorf("list %d: got %v, want %v", i, got, c.want)
		}
	}
	if _, ok := s.now().Listed("{a}"); ok {
		t.Error("what no list shows counts as listed")
	}
}

func TestAListThatLacksAKnownStepProvesNothing(t *testing.T) {
	s := newListed()
	s.list(t, "{a}", "{b}")
	s.scope.list.Runners[1].State.Step = &bitbucket.Step{UUID: "{5}"}
	s.stepSeen, s.view = true, nil
	s.distrustSteps(s.begun.Add(-time.Second))
	if listed, _ := s.now().Listed("{a}"); !s.now().StepSeen || !listed.ShowsSteps {
		t.Error("an older list's fault was attributed to a newer one")
	}
	s.distrustSteps(s.begun)
	if listed, _ := s.now().Listed("{a}"); s.now().StepSeen || listed.ShowsSteps {
		t.Error("a list without a known step is still believed")
	}
}

func TestAViewDoesNotChange(t *testing.T) {
	s := newListed()
	s.list(t, "{a}")
	before := s.now()
	s.record(write{runner: bitbucket.Runner{UUID: "{b}"}})
	if len(before.Runners) != 1 || len(s.now().Runners) != 2 {
		t.Errorf("got %d runners before and %d after the write, want 1 and 2", len(before.Runners), len(s.now().Runners))
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
		if got := PickOwn(c.named, c.reported); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestManyRunnersThatVanishTogetherAreGoneOnlyAfterASecondList(t *testing.T) {
	r := start(t, Config{PollInterval: 20 * time.Millisecond, WriteSettle: time.Millisecond})
	r.want(acme())
	var created []bitbucket.Runner
	for i := range 4 {
		created = append(created, r.mustCreate(fmt.Sprint("r", i)))
	}
	r.until("a list to show them", func() bool { _, ok := r.Listed(acme(), created[3].UUID); return ok })
	r.faults(emulator.FaultRule{Method: "GET", Path: "*/pipelines-config/runners", EmptyList: true})
	before := r.lists()
	r.until("five empty lists", func() bool { return r.lists() > before+5 })
	if n := len(r.view(acme()).Runners); n != 4 {
		t.Errorf("%d runners are known after empty lists, want 4", n)
	}
	if begun := r.view(acme()).ListBegun; time.Since(begun) < 40*time.Millisecond {
		t.Error("an empty list is in force")
	}
	for _, runner := range created { // by somebody else
		if err := r.client.DeleteRunner(t.Context(), r.view(acme()).Resolved, runner.UUID); err != nil {
			t.Fatal(err)
		}
	}
	r.until("their deletion to be believed", func() bool { return len(r.view(acme()).Runners) == 0 })
}

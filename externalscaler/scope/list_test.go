package scope

import (
	"fmt"
	"slices"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

// listed is a scope without a poller, of which a test gives the lists.
type listed struct {
	*scope
	clock *clocktesting.FakeClock
	begun time.Time
}

// newListed makes a scope with the default times: a list per minute, writes that show
// within 30 s.
func newListed() *listed {
	begun := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	clk := clocktesting.NewFakeClock(begun)
	return &listed{newScope(acme(), nil, Config{Owner: owner, Clock: clk}.withDefaults(), func() {}), clk, begun}
}

// list gives the next list, of our runners with these UUIDs, a minute after the last.
func (l *listed) list(t *testing.T, uuids ...string) {
	l.begun = l.begun.Add(time.Minute)
	l.clock.SetTime(l.begun)
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

// delete notes the deletion of our runner, some time after the last list.
func (l *listed) deleted(after time.Duration, uuid string) {
	l.clock.SetTime(l.begun.Add(after))
	l.record(write{runner: bitbucket.Runner{UUID: uuid, Labels: []string{owner}}, deleted: true})
}

func TestADeletedRunnerStaysDeletedUntilAListLacksIt(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration // from the list to the deletion; the next list is begun at 60 s
		lists [][]string    // after the deletion
	}{
		"long before the next list":             {5 * time.Second, [][]string{{"{b}"}, {"{b}"}}},
		"a moment before the next list":         {59 * time.Second, [][]string{{"{b}"}, {"{b}"}}},
		"the next list shows it still":          {59 * time.Second, [][]string{{"{a}", "{b}"}, {"{b}"}, {"{b}"}}},
		"lists show it long after its deletion": {5 * time.Second, [][]string{{"{a}", "{b}"}, {"{a}", "{b}"}, {"{b}"}, {"{b}"}}},
		"a list that lags shows it once more":   {40 * time.Second, [][]string{{"{b}"}, {"{a}", "{b}"}, {"{b}"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newListed()
			s.list(t, "{a}", "{b}")
			s.deleted(c.after, "{a}")
			for i, uuids := range c.lists {
				s.list(t, uuids...)
				if got := s.uuids(); !slices.Equal(got, []string{"{b}"}) {
					t.Errorf("list %d: got %v, want only {b}", i, got)
				}
			}
			if len(s.writes) != 0 {
				t.Errorf("%v is remembered of a runner that is gone", s.writes)
			}
		})
	}
}

func TestADeletionThatNeverTookEffectIsNotBelievedForEver(t *testing.T) {
	s := newListed()
	s.config.KeepRegistered = true
	s.list(t, "{a}", "{b}")
	s.deleted(5*time.Second, "{a}") // as when Bitbucket answers 404 for want of rights
	for range maxContradictions {
		s.list(t, "{a}", "{b}")
		if got := s.uuids(); !slices.Equal(got, []string{"{b}"}) {
			t.Errorf("got %v, want only {b}", got)
		}
	}
	s.list(t, "{a}", "{b}")
	if got := s.uuids(); !slices.Equal(got, []string{"{a}", "{b}"}) {
		t.Errorf("got %v, want both again", got)
	}
}

func TestAScopeIsKeptWhileAListShowsARunnerThatWeDeleted(t *testing.T) {
	s := newListed()
	s.config.KeepRegistered = true
	s.list(t, "{a}")
	s.deleted(5*time.Second, "{a}")
	s.clock.Step(time.Hour)
	if s.unused(s.clock.Now()) {
		t.Error("the scope may be dropped, and nobody would see whether the runner goes")
	}
}

func TestManyRunnersThatWeDeletedDoNotCountAsVanished(t *testing.T) {
	s := newListed()
	s.list(t, "{a}", "{b}", "{c}", "{d}", "{e}")
	for _, uuid := range []string{"{a}", "{b}", "{c}", "{d}"} {
		s.deleted(5*time.Second, uuid)
	}
	for range 2 {
		s.list(t, "{e}") // a read of each would fail: the scope has no client
		if s.suspect != nil {
			t.Fatalf("%d runners count as vanished", len(s.suspect))
		}
	}
}

func TestRunnersThatWereJustCreatedDoNotCountAsVanished(t *testing.T) {
	s := newListed()
	s.list(t, "{a}")
	s.clock.SetTime(s.begun.Add(40 * time.Second))
	for _, uuid := range []string{"{b}", "{c}", "{d}"} {
		s.record(write{runner: bitbucket.Runner{UUID: uuid, Labels: []string{owner}}})
	}
	s.list(t, "{a}") // 20 s later: it may be older than the writes
	if got := s.uuids(); len(s.suspect) != 0 || !slices.Equal(got, []string{"{a}", "{b}", "{c}", "{d}"}) {
		t.Errorf("got %v, of which %d count as vanished", got, len(s.suspect))
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

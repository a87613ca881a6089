package plan

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket/pipelines"
)

func TestSeedGivesTheSamePlan(t *testing.T) {
	for seed := range uint64(50) {
		if diff := cmp.Diff(New(seed, Options{Rate: 5}), New(seed, Options{Rate: 5})); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
	if cmp.Equal(New(1, Options{}).Faults, New(2, Options{}).Faults) {
		t.Error("two seeds give the same faults")
	}
}

func TestEveryPlanHasWhatARoundNeeds(t *testing.T) {
	seen := map[Kind]int{}
	for seed := range uint64(1000) {
		for _, rate := range []int{1, 5} {
			p := New(seed, Options{Rate: rate})
			for what, n := range map[string][2]int{
				"groups": {len(p.Groups), MinGroups}, "scopes": {p.Scopes(), MinScopes}, "steps": {p.Steps(), MinSteps},
				"faults": {len(p.Faults), MinFaults}, "kinds": {len(p.Kinds()), MinFaultKinds},
			} {
				if n[0] < n[1] {
					t.Errorf("seed %d at rate %d: %d %s, want %d", seed, rate, n[0], what, n[1])
				}
			}
			for kind, n := range p.Kinds() {
				seen[kind] += n
			}
			check(t, p)
		}
	}
	for _, kind := range Kinds {
		if seen[kind] < 100 {
			t.Errorf("%s occurs %d times in 2000 plans", kind, seen[kind])
		}
	}
}

// check finds what no plan may have.
func check(t *testing.T, p Plan) {
	t.Helper()
	for _, g := range p.Groups {
		if g.Min < 1 || g.Max <= g.Rest() {
			t.Errorf("seed %d: group %+v", p.Seed, g)
		}
	}
	lag := p.Times.WriteSettle
	for _, f := range p.Faults {
		if slices.Contains([]Kind{StaleLists, LateWrites}, f.Kind) && f.Lag*2 >= lag {
			t.Errorf("seed %d: a list or a write lags by %v, twice of which is no less than %v", p.Seed, f.Lag, lag)
		}
		if f.At > p.Length {
			t.Errorf("seed %d: %s begins at %v of %v", p.Seed, f, f.At, p.Length)
		}
	}
}

func TestWhatIsExcludedDoesNotOccur(t *testing.T) {
	for seed := range uint64(200) {
		if n := New(seed, Options{Without: []Kind{PodDeleted, NodeDrained}}).Kinds(); n[PodDeleted]+n[NodeDrained] > 0 {
			t.Fatalf("seed %d: %v", seed, n)
		}
	}
}

func TestAboutHalfOfTheRoundsScaleByTheQueue(t *testing.T) {
	rounds, hooked := 0, 0
	for seed := range uint64(1000) {
		p := New(seed, Options{Rate: 1})
		groups := slices.ContainsFunc(p.Groups, func(g Group) bool { return g.ByQueue })
		faults := slices.ContainsFunc(p.Faults, func(f Fault) bool { return slices.Contains(queueKinds, f.Kind) })
		if groups != p.Queue || faults != p.Queue || p.Webhooks && !p.Queue {
			t.Fatalf("groups by queue %v, their faults %v, want %v: %s", groups, faults, p.Queue, p)
		}
		if p.Queue {
			rounds++
		}
		if p.Webhooks {
			hooked++
		}
	}
	if rounds < 400 || rounds > 600 || hooked < rounds*7/10 || hooked == rounds {
		t.Errorf("%d of 1000 rounds by the queue, %d with webhooks", rounds, hooked)
	}
	if p := New(1, Options{OnlyQueue: true}); !p.Queue {
		t.Error("OnlyQueue has no effect")
	}
}

func TestFilesOfAllShapesDefineTheirSteps(t *testing.T) {
	label := "g1.r1"
	for shape, want := range map[Shape]int{FanOut: 5, Gate: 3, Retry: 4, Failure: 6, Condition: 5, Lock: 3, Mixed: 5} {
		text := Pipeline{Shape: shape, Steps: 3, Duration: 5 * time.Second}.File(label)
		file, err := pipelines.Parse([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v: %s", shape, err, text)
		}
		read := file.Select(pipelines.Selector{Type: "default"})
		if read.Unknown != "" || len(read.Steps) != want {
			t.Errorf("%s: %d steps, want %d, %s: %s", shape, len(read.Steps), want, read.Unknown, text)
		}
		for _, step := range read.Steps {
			if served := step.Labels.ServedBy(pipelines.Runner("linux", label)); step.NeedsRunner() && !served {
				t.Errorf("%s: step %q has labels %v", shape, step.Title(), step.Labels)
			}
		}
	}
	file, err := pipelines.Parse([]byte(Pipeline{Shape: FanOut, Steps: 3, Duration: time.Second}.File("")))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range file.Select(pipelines.Selector{Type: "default"}).Steps {
		if step.NeedsRunner() {
			t.Errorf("step %q without a label has labels %v", step.Title(), step.Labels)
		}
	}
	if len(shapes) != 7 {
		t.Errorf("%d shapes, want 7", len(shapes))
	}
}

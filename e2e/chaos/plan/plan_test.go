package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
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
		if f.Lag*2 >= lag {
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

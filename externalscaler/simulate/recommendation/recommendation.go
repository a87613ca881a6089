// Package recommendation searches the settings of runner groups with which a workload costs least, if
// its steps may not wait for longer than some time. It tries settings in simulations; the same
// arguments give the same answer.
package recommendation

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/simulate"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

// Settings are what is searched. All groups of a workload get the same.
type Settings struct {
	Strategy           policy.Strategy
	Min, Spare         int
	CoolDown           time.Duration
	LookAhead          time.Duration
	ScaleUp, ScaleDown float64
}

// String shows the settings that have an effect.
func (s Settings) String() string {
	shown := []string{string(s.Strategy), fmt.Sprintf("min %d", s.Min), fmt.Sprintf("spare %d", s.Spare), fmt.Sprintf("coolDown %v", s.CoolDown)}
	if s.Strategy == policy.QueuedSteps {
		shown = append(shown, fmt.Sprintf("lookAhead %v", s.LookAhead))
	} else {
		shown = append(shown, fmt.Sprintf("thresholds %g, %g", s.ScaleUp, s.ScaleDown))
	}
	return strings.Join(shown, ", ")
}

// Apply returns the groups with the settings. What is not searched stays as it is.
func (s Settings) Apply(groups []simulate.Group) []simulate.Group {
	applied := slices.Clone(groups)
	for i := range applied {
		g := &applied[i]
		r := &g.Rules
		r.Strategy, r.Min, r.Spare, r.CoolDown, r.ScaleUpThreshold, r.ScaleDownThreshold = s.Strategy, min(s.Min, r.Max), s.Spare, s.CoolDown, s.ScaleUp, s.ScaleDown
		g.LookAhead = s.LookAhead
	}
	return applied
}

// Search is what is searched for.
type Search struct {
	Load    workload.Workload
	Groups  []simulate.Group
	Options simulate.Options
	// P95 bounds the wait of 95 % of the steps.
	P95 time.Duration
	// Most bounds the simulations. Each strategy gets its part, and at least one.
	Most int
}

// Candidate is settings and what came of them.
type Candidate struct {
	Settings
	Result simulate.Result
}

// Answer is what a search has found.
type Answer struct {
	// Best is the cheapest candidate within the bound, or the one that comes closest to it.
	Best Candidate
	// Within is true if Best is within the bound, and no step of it fails.
	Within bool
	// Tried is how many candidates were simulated.
	Tried int
	// Choices are the candidates of which none is cheaper with shorter waits, the cheapest first.
	Choices []Candidate
}

// dimension is one setting with the values that are tried.
type dimension struct {
	of func(Settings) bool // whether it has an effect; nil if always
	// with returns the settings with each value.
	with func(Settings) []Settings
}

// beside returns the settings with the next lower and the next higher value.
func (d dimension) beside(s Settings) (beside []Settings) {
	all := d.with(s)
	at := slices.Index(all, s)
	for _, i := range []int{at - 1, at + 1} {
		if at >= 0 && i >= 0 && i < len(all) {
			beside = append(beside, all[i])
		}
	}
	return beside
}

func values[T any](set func(*Settings, T), all ...T) func(Settings) []Settings {
	return func(s Settings) []Settings {
		varied := make([]Settings, len(all))
		for i, value := range all {
			varied[i] = s
			set(&varied[i], value)
		}
		return varied
	}
}

func byQueue(s Settings) bool { return s.Strategy == policy.QueuedSteps }
func byRatio(s Settings) bool { return s.Strategy == policy.PercentageRunnersIdle }

var dimensions = []dimension{
	{with: values(func(s *Settings, n int) { s.Spare = n }, 0, 1, 2, 3, 5, 8, 12, 20)},
	{of: byQueue, with: values(func(s *Settings, d time.Duration) { s.LookAhead = d }, 0, 15*time.Second, 30*time.Second, time.Minute, 2*time.Minute)},
	{of: byRatio, with: values(func(s *Settings, up float64) { s.ScaleUp = up }, 0.3, 0.5, 0.65, 0.8)},
	{of: byRatio, with: values(func(s *Settings, down float64) { s.ScaleDown = down }, 0.1, 0.2, 0.3, 0.45, 0.6)},
	{with: values(func(s *Settings, d time.Duration) { s.CoolDown = d }, time.Minute, 2*time.Minute, 5*time.Minute, 10*time.Minute, 20*time.Minute, 40*time.Minute)},
	{with: values(func(s *Settings, n int) { s.Min = n }, 1, 2, 3, 5, 8, 12, 20)},
}

// begin is where the search begins for each strategy: at the defaults.
var begin = []Settings{
	{Strategy: policy.QueuedSteps, Min: 1, CoolDown: 5 * time.Minute, ScaleUp: 0.5, ScaleDown: 0.2},
	{Strategy: policy.PercentageRunnersIdle, Min: 1, CoolDown: 5 * time.Minute, ScaleUp: 0.5, ScaleDown: 0.2},
}

// Run searches. For each strategy it begins with the defaults, and varies one setting after the other
// for as long as that makes it better. If no single one does, it varies two at a time a little.
func (s Search) Run(ctx context.Context) (Answer, error) {
	h := &hunt{Search: s, known: map[Settings]simulate.Result{}}
	var best Candidate
	for i, first := range begin {
		h.limit = s.Most * (i + 1) / len(begin) // so that each strategy has its part
		found, err := h.climb(ctx, first)
		if err != nil {
			return Answer{}, err
		}
		if i == 0 || h.compare(found, best) < 0 {
			best = found
		}
	}
	return Answer{Best: best, Within: h.within(best.Result), Tried: len(h.known), Choices: h.choices()}, nil
}

// hunt is a search in progress.
type hunt struct {
	Search
	limit int // of the simulations so far
	known map[Settings]simulate.Result
	order []Settings
}

// climb varies one setting after the other until nothing gets better, or too much was tried.
func (h *hunt) climb(ctx context.Context, first Settings) (best Candidate, err error) {
	if err := h.simulate(ctx, []Settings{first}); err != nil {
		return best, err
	}
	best = Candidate{first, h.known[first]}
	dimensions := slices.DeleteFunc(slices.Clone(dimensions), func(d dimension) bool { return d.of != nil && !d.of(first) })
	for better := true; better; {
		better = false
		for _, d := range dimensions {
			improved, err := h.improve(ctx, &best, d.with(best.Settings))
			if err != nil {
				return best, err
			}
			better = better || improved
		}
		for i := 0; i < len(dimensions) && !better; i++ {
			for _, other := range dimensions[i+1:] {
				var pairs []Settings
				for _, s := range dimensions[i].beside(best.Settings) {
					pairs = append(pairs, other.beside(s)...)
				}
				if better, err = h.improve(ctx, &best, pairs); err != nil {
					return best, err
				}
				if better {
					break
				}
			}
		}
	}
	return best, nil
}

// improve simulates variations, and takes the best one if it is better.
func (h *hunt) improve(ctx context.Context, best *Candidate, varied []Settings) (better bool, err error) {
	varied = h.affordable(varied)
	if err := h.simulate(ctx, varied); err != nil {
		return false, err
	}
	for _, v := range varied {
		if c := (Candidate{v, h.known[v]}); h.compare(c, *best) < 0 {
			*best, better = c, true
		}
	}
	return better, nil
}

// affordable leaves out settings that make no sense, or for which no simulation is left.
func (h *hunt) affordable(varied []Settings) (kept []Settings) {
	left := h.limit - len(h.known)
	for _, v := range varied {
		_, known := h.known[v]
		if v.ScaleDown >= v.ScaleUp || v.Min > h.max() || v.Spare > h.max() || !known && left <= 0 {
			continue
		}
		if !known {
			left--
		}
		kept = append(kept, v)
	}
	return kept
}

// max is the highest number of runners of all groups.
func (h *hunt) max() (most int) {
	for _, g := range h.Groups {
		most = max(most, g.Rules.Max)
	}
	return most
}

// simulate simulates the settings that were not tried yet, side by side.
func (h *hunt) simulate(ctx context.Context, all []Settings) error {
	var fresh []Settings
	for _, s := range all {
		if _, known := h.known[s]; !known {
			fresh = append(fresh, s)
		}
	}
	results := make([]simulate.Result, len(fresh))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, s := range fresh {
		group.Go(func() (err error) {
			results[i], err = simulate.Run(ctx, h.Load, simulate.Configuration{Name: s.String(), Groups: s.Apply(h.Groups), Scaler: simulate.Ours{}}, h.Options)
			results[i].Waits = nil // there are many
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, s := range fresh {
		h.known[s] = results[i]
		h.order = append(h.order, s)
	}
	return nil
}

func (h *hunt) within(r simulate.Result) bool { return r.Wait.P95 <= h.P95 && r.Failed == 0 }

// compare returns a negative number if a is better than b: it is within the bound and b is not, or
// both are and it costs less, or neither is and it comes closer.
func (h *hunt) compare(a, b Candidate) int {
	x, y := a.Result, b.Result
	switch ok := h.within(x); {
	case ok != h.within(y) && ok:
		return -1
	case ok != h.within(y):
		return 1
	case ok:
		return cmp.Or(cmp.Compare(x.RunnerTime, y.RunnerTime), cmp.Compare(x.Wait.P95, y.Wait.P95))
	}
	return cmp.Or(cmp.Compare(x.Failed, y.Failed), cmp.Compare(x.Wait.P95, y.Wait.P95), cmp.Compare(x.RunnerTime, y.RunnerTime))
}

// choices are the candidates of which none is both cheaper and quicker.
func (h *hunt) choices() (front []Candidate) {
	all := make([]Candidate, len(h.order))
	for i, s := range h.order {
		all[i] = Candidate{s, h.known[s]}
	}
	slices.SortStableFunc(all, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.Result.RunnerTime, b.Result.RunnerTime), cmp.Compare(a.Result.Wait.P95, b.Result.Wait.P95))
	})
	for _, c := range all {
		if c.Result.Failed > 0 || len(front) > 0 && c.Result.Wait.P95 >= front[len(front)-1].Result.Wait.P95 {
			continue
		}
		front = append(front, c)
	}
	return front
}

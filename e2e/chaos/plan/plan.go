// Package plan makes the plan of a round of chaos as a pure function of a seed: its
// groups, load and faults with all their times. It does not run the plan.
package plan

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// The minimum of every plan.
const (
	MinGroups     = 3
	MinScopes     = 2
	MinSteps      = 20
	MinFaults     = 5
	MinFaultKinds = 3
)

// Plan is the plan of a round. All times are on the round's clock and count from the
// beginning of the load.
type Plan struct {
	Seed uint64
	// Rate is how many times faster than the machine's clock the round's clock runs.
	Rate int
	// HideStep is true if Bitbucket shows no steps in the whole round.
	HideStep bool
	// Queue is true if some groups scale by the steps that wait. Webhooks is true if Bitbucket
	// delivers events to the scaler.
	Queue, Webhooks bool
	Times           Times
	Groups          []Group
	// Pipelines and Faults are sorted by time.
	Pipelines []Pipeline
	Faults    []Fault
	// Length is the duration of load and faults.
	Length time.Duration
}

// Times are the scaler's flags.
type Times struct {
	PollInterval, WriteSettle, OrphanGrace time.Duration
}

// Group is a runner group.
type Group struct {
	Name string
	// Namespace is "a" or "b".
	Namespace string
	// Repository is the repository of the scope, or empty for the workspace. StepsIn is
	// the repository in which the steps run.
	Repository, StepsIn string
	Min, Max            int
	CoolDown, MaxAge    time.Duration
	Ephemeral           bool
	// ByQueue is true if the group scales by the steps that wait. Listed is true if it names
	// StepsIn, so that the repository need not be found.
	ByQueue, Listed bool
	LookAhead       time.Duration
}

// Spare returns how many spare runners the group keeps.
func (g Group) Spare() int {
	if g.Ephemeral {
		return 1
	}
	return 0
}

// Rest returns how many runners the group has without load.
func (g Group) Rest() int { return max(g.Min, g.Spare()) }

// Fault is a fault that the round injects.
type Fault struct {
	Kind Kind
	At   time.Duration
	// For is how long it lasts. It is 0 for a momentary fault.
	For time.Duration
	// Probability is the probability that it affects a call, for faults of Bitbucket.
	Probability float64
	// Lag is how late writes are applied, or how old lists are.
	Lag time.Duration
	// Pick selects the victim. Busy prefers a busy one.
	Pick int
	Busy bool
	// Step is how far the clock is stepped.
	Step time.Duration
}

// Options are a suite's settings for its plans.
type Options struct {
	// Rate is Plan.Rate.
	Rate int
	// OnlyQueue makes Plan.Queue true.
	OnlyQueue bool
	// Without lists kinds that must not occur.
	Without []Kind
}

// New returns the plan of a seed.
func New(seed uint64, options Options) Plan {
	rate := max(options.Rate, 1)
	m := &maker{
		Rand: rand.New(rand.NewPCG(seed, 0xC4A05)), //nolint:gosec // reproducible, and not a secret
		plan: Plan{Seed: seed, Rate: rate}, real: rate == 1, without: options.Without,
	}
	m.plan.Queue = m.chance(0.5) || options.OnlyQueue
	m.plan.Webhooks = m.plan.Queue && m.chance(0.8)
	m.times()
	m.groups()
	m.load()
	m.faults()
	return m.plan
}

// maker makes one plan.
type maker struct {
	*rand.Rand
	plan Plan
	// real is true for the machine's own clock. Then long times are avoided.
	real    bool
	without []Kind
}

// between returns a random time in tenths of a second.
func (m *maker) between(least, most time.Duration) time.Duration {
	const grain = 100 * time.Millisecond
	return least + time.Duration(m.Int64N(int64((most-least)/grain)+1))*grain
}

// spell returns a random time, which is half as long on the machine's own clock.
func (m *maker) spell(least, most time.Duration) time.Duration {
	if m.real {
		return m.between(least/2, most/2)
	}
	return m.between(least, most)
}

func choose[T any](m *maker, from ...T) T { return from[m.IntN(len(from))] }

func (m *maker) chance(of float64) bool { return m.Float64() < of }

func (m *maker) times() {
	p := &m.plan
	p.HideStep = m.chance(0.25)
	p.Length = m.between(100*time.Second, 150*time.Second)
	p.Times = Times{
		PollInterval: choose(m, 10*time.Second, 20*time.Second, 30*time.Second),
		WriteSettle:  choose(m, 10*time.Second, 20*time.Second, 30*time.Second),
		OrphanGrace:  choose(m, 20*time.Second, 30*time.Second, time.Minute),
	}
	if m.real {
		p.Length = m.between(60*time.Second, 80*time.Second)
		p.Times = Times{
			PollInterval: 10 * time.Second, WriteSettle: choose(m, 5*time.Second, 10*time.Second, 20*time.Second),
			OrphanGrace: choose(m, 15*time.Second, 30*time.Second),
		}
	}
	if m.chance(0.5) {
		p.Times.WriteSettle = p.Times.PollInterval / 2 // as at the defaults
	}
}

// Steps returns the number of steps.
func (p Plan) Steps() int {
	n := 0
	for _, one := range p.Pipelines {
		n += one.Steps
	}
	return n
}

// Scopes returns the number of scopes in which the groups' runners are registered.
func (p Plan) Scopes() int {
	seen := map[string]struct{}{}
	for _, g := range p.Groups {
		seen[g.Repository] = struct{}{}
	}
	return len(seen)
}

// Kinds returns how often each kind of fault occurs.
func (p Plan) Kinds() map[Kind]int {
	kinds := map[Kind]int{}
	for _, f := range p.Faults {
		kinds[f.Kind]++
	}
	if p.HideStep {
		kinds[HiddenSteps]++
	}
	return kinds
}

// String describes the complete plan.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, clock x%d, %v of load, hide steps: %v, webhooks: %v, poll %v, write settle %v, orphan grace %v\n",
		p.Seed, p.Rate, p.Length, p.HideStep, p.Webhooks, p.Times.PollInterval, p.Times.WriteSettle, p.Times.OrphanGrace)
	for _, g := range p.Groups {
		fmt.Fprintf(&b, "  group %s in %s: scope %q, steps in %s, min %d, max %d, cool-down %v, max age %v, ephemeral %v, by queue %v, listed %v, look-ahead %v\n",
			g.Name, g.Namespace, g.Repository, g.StepsIn, g.Min, g.Max, g.CoolDown, g.MaxAge, g.Ephemeral, g.ByQueue, g.Listed, g.LookAhead)
	}
	for _, one := range p.Pipelines {
		fmt.Fprintf(&b, "  at %v: %s for %s\n", one.At, one, p.Groups[one.Group].Name)
	}
	for _, f := range p.Faults {
		fmt.Fprintf(&b, "  at %v: %s\n", f.At, f)
	}
	return b.String()
}

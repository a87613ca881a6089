// Package policy holds the scaling rules: pure functions from an observation of a
// runner group to the decision how many runners it should have. It knows neither
// Bitbucket nor Kubernetes nor a clock; what is observed is owned by package
// fleet, and what is done about it by KEDA and by package reaper.
package policy

import (
	"fmt"
	"math"
	"time"
)

// Strategy is how the wanted number of runners is found.
type Strategy string

// The strategies.
const (
	// PercentageRunnersIdle scales by the share of busy runners, as Atlassian's
	// runners-autoscaler does.
	PercentageRunnersIdle Strategy = "percentageRunnersIdle"
	// QueuedSteps wants one runner for each busy one and each waiting step.
	QueuedSteps Strategy = "queuedSteps"
	// Fixed wants Rules.Count: the manual mode.
	Fixed Strategy = "fixed"
)

// ScopeLimit is how many runners Bitbucket registers in a workspace or
// repository at most.
const ScopeLimit = 100

// Rules are a group's settings; runnergroup.Parse holds them to their bounds.
type Rules struct {
	Strategy Strategy
	// Min and Max bound the runners; with Fixed, Count stands for both.
	Min, Max int
	// Spare runners are kept free on top of the busy ones.
	Spare int
	// Count is how many runners Fixed wants.
	Count int
	// Above ScaleUpThreshold, and below ScaleDownThreshold, busy/online scales the
	// online runners by the multiplier.
	ScaleUpThreshold, ScaleDownThreshold   float64
	ScaleUpMultiplier, ScaleDownMultiplier float64
	// CoolDown is the window of scale-down: the highest number asked for within
	// it stays in force.
	CoolDown time.Duration
	// Ephemeral runners take one step each.
	Ephemeral bool
}

// MaxRunners is how many runners the rules allow at most: Max, or Count with Fixed.
func (r Rules) MaxRunners() int {
	if r.Strategy == Fixed {
		return r.Count
	}
	return r.Max
}

// Observation counts a group's unfinished Jobs by what their runners do, and what
// else the scope holds.
type Observation struct {
	// Capacity. Pending: no runner registered yet; Starting: registered, not yet
	// online; Idle: online, known to have no step; Busy: has a step; Unknown:
	// online, and nothing tells.
	Pending, Starting, Idle, Busy, Unknown int
	// Dead weight. Draining: disabled without a step; DrainingBusy: disabled, its
	// step still runs; Lost: offline too long; Outdated: idle and still taking steps,
	// to end once its successor is online.
	Draining, DrainingBusy, Lost, Outdated int
	// Successors, part of the capacity, are here to take an Outdated one's place.
	Successors int
	// Queued steps wait for a runner of the group; meaningless unless QueueVisible.
	Queued       int
	QueueVisible bool
	// OtherRegistered runners of the scope are not this group's.
	OtherRegistered int
	// OtherUnfilledMin is what other groups lack of their minimum.
	OtherUnfilledMin int
}

// Capacity counts the Jobs that have, or will have, a runner to give.
func (o Observation) Capacity() int { return o.Pending + o.Starting + o.Idle + o.Busy + o.Unknown }

// Online counts the runners that the ratio is over: a disabled one that still has
// its step is one of them, and one whose successor is yet to come.
func (o Observation) Online() int {
	return o.Idle + o.Busy + o.Unknown + o.DrainingBusy + o.Outdated
}

// standing is what the group has, and is to keep: a runner that is being replaced
// leaves its place to its successor.
func (o Observation) standing() int {
	return o.Capacity() + max(0, o.Outdated-o.Successors)
}

// DeadWeight counts the unfinished Jobs that give no capacity, which KEDA counts
// all the same.
func (o Observation) DeadWeight() int { return o.Draining + o.DrainingBusy + o.Lost + o.Outdated }

// room is how many runners of this group the scope can hold.
func (o Observation) room() int { return max(0, ScopeLimit-o.OtherRegistered-o.OtherUnfilledMin) }

// Reason says which rule decided.
type Reason string

// The reasons.
const (
	ReasonHold        Reason = "Hold"
	ReasonScaleUp     Reason = "ScaleUp"
	ReasonScaleDown   Reason = "ScaleDown"
	ReasonBelowMin    Reason = "BelowMin"
	ReasonSpare       Reason = "Spare"
	ReasonQueue       Reason = "QueuedSteps"
	ReasonFixed       Reason = "Fixed"
	ReasonAboveMax    Reason = "AboveMax"
	ReasonRunnerLimit Reason = "RunnerLimit"
	// ReasonCoolDown: fewer are desired, the window holds the number up.
	ReasonCoolDown Reason = "CoolDown"
)

// Decision is how many runners a group should have, and why.
type Decision struct {
	// Desired is what the rules ask for now.
	Desired int
	// Effective is the highest desired within the cool-down: what is acted on.
	Effective int
	// Target is the number of unfinished Jobs that KEDA is asked to keep: Effective
	// and the dead weight, at most max.
	Target int
	// Reason is the rule that decided, Note the same in a sentence with its numbers.
	Reason Reason
	Note   string
	// Observation, Rules and Time are the inputs.
	Observation Observation
	Rules       Rules
	Time        time.Time
}

// Surplus is how many online runners of the capacity are too many. Runners that
// are starting never count towards it, and it never leaves fewer than
// min(Min, online) online and enabled.
func (d Decision) Surplus() int {
	o := d.Observation
	online := o.Idle + o.Busy + o.Unknown
	keep := max(d.Effective, min(d.Rules.Min, online))
	return max(0, online-keep)
}

// proposal is a number with the rule that asked for it.
type proposal struct {
	runners int
	reason  Reason
	note    string
}

// Decide applies the rules to an observation. The window is the group's own and
// remembers what was asked for; asking twice at one time changes nothing.
func Decide(rules Rules, window *Window, o Observation, now time.Time) Decision {
	p := want(rules, o)
	if rules.Strategy != Fixed {
		if floor := o.Busy + rules.Spare; p.runners < floor {
			p = proposal{floor, ReasonSpare, fmt.Sprintf("%d busy and %d spare", o.Busy, rules.Spare)}
		}
		if p.runners < rules.Min {
			p = proposal{rules.Min, ReasonBelowMin, fmt.Sprintf("min is %d", rules.Min)}
		}
	}
	ceiling := rules.MaxRunners()
	if p.runners > ceiling {
		p = proposal{ceiling, ReasonAboveMax, fmt.Sprintf("%s, but max is %d", p.note, ceiling)}
	}
	room := o.room()
	if p.runners > room {
		p = proposal{room, ReasonRunnerLimit, fmt.Sprintf("%s, but of the scope's %d runners %d are others' and %d are set aside", p.note, ScopeLimit, o.OtherRegistered, o.OtherUnfilledMin)}
	}
	d := Decision{Desired: p.runners, Effective: p.runners, Reason: p.reason, Note: p.note, Observation: o, Rules: rules, Time: now}
	// Fixed is never held up, its count being its ceiling, but is recorded: a group
	// that leaves it is paced like any other.
	highest := window.record(p.runners, min(o.standing(), ceiling, room), rules.CoolDown, now)
	if d.Effective = min(highest, ceiling, room); d.Effective > d.Desired {
		d.Reason = ReasonCoolDown
		d.Note = fmt.Sprintf("%s, but %d were asked for within the last %v", p.note, d.Effective, rules.CoolDown)
	}
	d.Target = min(d.Effective+o.DeadWeight(), ceiling)
	return d
}

// want is what the strategy alone asks for.
func want(rules Rules, o Observation) proposal {
	switch {
	case rules.Strategy == Fixed:
		return proposal{rules.Count, ReasonFixed, fmt.Sprintf("count is %d", rules.Count)}
	case rules.Strategy == QueuedSteps && o.QueueVisible:
		// As in the ratio: the unknown ones are idle where the queue grows the
		// group, busy where it shrinks.
		return proposal{o.Busy + max(o.Queued, o.Unknown), ReasonQueue, fmt.Sprintf("%d busy and %d queued%s", o.Busy, o.Queued, o.unknown())}
	case rules.Strategy == QueuedSteps:
		p := byRatio(rules, o)
		p.note += " (the queue cannot be seen)"
		return p
	}
	return byRatio(rules, o)
}

// unknown tells of runners that a note's other numbers leave out.
func (o Observation) unknown() string {
	if o.Unknown == 0 {
		return ""
	}
	return fmt.Sprintf(" (of %d more online nothing is known)", o.Unknown)
}

// byRatio is the rule of Atlassian's runners-autoscaler. A runner of which nothing
// is known is idle where that would scale up and busy where that would scale
// down, so that a restart neither grows nor shrinks a group.
func byRatio(rules Rules, o Observation) proposal {
	online, capacity := o.Online(), o.standing()
	if online == 0 {
		return proposal{capacity, ReasonHold, fmt.Sprintf("none online, %d starting", capacity)}
	}
	busy := o.Busy + o.DrainingBusy
	up, down := float64(busy)/float64(online), float64(busy+o.Unknown)/float64(online)
	switch {
	case up > rules.ScaleUpThreshold:
		scaled := ceil(float64(online) * rules.ScaleUpMultiplier)
		return proposal{max(scaled, capacity), ReasonScaleUp,
			fmt.Sprintf("busy %d of %d online is %.2f, above %.2f: ceil(%d × %g) = %d", busy, online, up, rules.ScaleUpThreshold, online, rules.ScaleUpMultiplier, scaled)}
	case down < rules.ScaleDownThreshold:
		scaled := floor(float64(online) * rules.ScaleDownMultiplier)
		// Never above the capacity: disabled runners with a step are online too, and
		// a share of them must not make scale-down grow the group.
		return proposal{max(min(scaled, capacity), o.Busy+o.Unknown), ReasonScaleDown,
			fmt.Sprintf("busy %d of %d online is %.2f, below %.2f: floor(%d × %g) = %d", busy+o.Unknown, online, down, rules.ScaleDownThreshold, online, rules.ScaleDownMultiplier, scaled)}
	}
	return proposal{capacity, ReasonHold, fmt.Sprintf("busy %d of %d online%s is neither above %.2f nor below %.2f", busy, online, o.unknown(), rules.ScaleUpThreshold, rules.ScaleDownThreshold)}
}

// roundingError is the most that a product of two decimal settings strays from
// what its user computes by hand: 50 × 1.1 is 55.00000000000001 in binary, and
// its ceiling must not be 56.
const roundingError = 1e-9

func ceil(x float64) int  { return int(math.Ceil(bounded(x) - roundingError)) }
func floor(x float64) int { return int(math.Floor(bounded(x) + roundingError)) }

// mostScaled is above all that the accepted settings can multiply to.
const mostScaled = 1e6

// bounded keeps a product where an int can hold it: what Go makes of NaN and of
// huge numbers depends on the machine.
func bounded(x float64) float64 {
	if x > 0 {
		return min(x, mostScaled)
	}
	return 0
}

// Package policy holds the scaling rules: pure functions from an observation of a
// runner group to a decision on how many runners the group should have. It does not
// use Bitbucket, Kubernetes or a clock. Package fleet makes the observations. KEDA
// and package reaper carry the decisions out.
package policy

import (
	"fmt"
	"time"
)

// Strategy selects how the desired number of runners is computed.
type Strategy string

// The strategies.
const (
	// PercentageRunnersIdle scales by the share of busy runners, as Atlassian's
	// runners-autoscaler does.
	PercentageRunnersIdle Strategy = "percentageRunnersIdle"
	// QueuedSteps asks for one runner per busy runner and one per queued step.
	QueuedSteps Strategy = "queuedSteps"
	// Fixed asks for Rules.Count runners. It is the manual mode.
	Fixed Strategy = "fixed"
)

// StartsFromZero reports whether a strategy can ask for a runner while there is none. With
// PercentageRunnersIdle there is no ratio then.
func (s Strategy) StartsFromZero() bool { return s == QueuedSteps }

// ScopeLimit is the maximum number of runners that Bitbucket registers in a
// workspace or repository.
const ScopeLimit = 100

// Rules are a group's settings. runnergroup.Parse checks their bounds.
type Rules struct {
	Strategy Strategy
	// Min and Max bound the number of runners. Fixed uses Count instead of both.
	Min, Max int
	// Spare is how many runners are kept in addition to the busy ones.
	Spare int
	// Count is how many runners Fixed asks for.
	Count int
	// If the ratio busy/online is above ScaleUpThreshold or below
	// ScaleDownThreshold, the number of online runners is multiplied by the
	// corresponding multiplier.
	ScaleUpThreshold, ScaleDownThreshold   float64
	ScaleUpMultiplier, ScaleDownMultiplier float64
	// CoolDown is the stabilization window for scale-down: the highest number
	// desired within it stays in force.
	CoolDown time.Duration
	// Ephemeral runners take one step each.
	Ephemeral bool
}

// MaxRunners returns the maximum number of runners: Max, or Count with Fixed.
func (r Rules) MaxRunners() int {
	if r.Strategy == Fixed {
		return r.Count
	}
	return r.Max
}

// MinRunners is how many runners the rules keep at least: Min, or Count with Fixed.
func (r Rules) MinRunners() int {
	if r.Strategy == Fixed {
		return r.Count
	}
	return r.Min
}

// Observation counts a group's unfinished Jobs by the state of their runners, and
// the other runners of the scope.
type Observation struct {
	// The capacity. Pending: no runner is registered yet. Starting: registered, not
	// yet online. Idle: online and known to have no step. Busy: has a step. Unknown:
	// online, and neither a list nor a sidecar reports whether it has a step.
	Pending, Starting, Idle, Busy, Unknown int
	// The dead weight. Draining: disabled, without a step. DrainingBusy: disabled,
	// and its step still runs. Lost: offline for too long. Outdated: idle and still
	// taking steps; it is stopped once its successor is online.
	Draining, DrainingBusy, Lost, Outdated int
	// Successors are the part of the capacity that replaces Outdated runners.
	Successors int
	// Queued counts the steps that wait for a runner of the group, and Predicted those
	// that soon will. QueuedFrom says which pipelines most of them are of.
	Queued, Predicted int
	QueuedFrom        string
	// Begun counts the steps that Bitbucket has given to a runner which does not show them
	// yet.
	Begun int
	// QueuePending is true while the queue is read for the first time. QueueUnknown says
	// why not all of the queue can be seen; empty if it can.
	QueuePending bool
	QueueUnknown string
	// OtherRegistered counts the scope's runners that do not belong to this group.
	OtherRegistered int
	// OtherReserved is how many slots of the scope other groups will take: for Jobs
	// that have no runner yet, and up to their minimum.
	OtherReserved int
	// CrashLoop says why the group gets only Tries Jobs beside its unfinished ones: its
	// Jobs keep failing. It is empty if they do not.
	CrashLoop string
	Tries     int
}

// Capacity counts the Jobs that provide a runner now or will provide one.
func (o Observation) Capacity() int { return o.Pending + o.Starting + o.Idle + o.Busy + o.Unknown }

// Online counts the runners in the ratio's denominator. It includes disabled runners
// that still have a step, and outdated runners.
func (o Observation) Online() int {
	return o.Idle + o.Busy + o.Unknown + o.DrainingBusy + o.Outdated
}

// current is the number of runners that the group has and should keep. A runner that
// is being replaced and its successor count as one.
func (o Observation) current() int {
	return o.Capacity() + max(0, o.Outdated-o.Successors)
}

// DeadWeight counts the unfinished Jobs that provide no capacity. KEDA counts them
// too.
func (o Observation) DeadWeight() int { return o.Draining + o.DrainingBusy + o.Lost + o.Outdated }

// room is the maximum number of runners that this group can have in its scope.
func (o Observation) room() int { return max(0, ScopeLimit-o.OtherRegistered-o.OtherReserved) }

// Reason names the rule that decided.
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
	// ReasonCoolDown means that fewer runners are desired, but the cool-down window
	// keeps the number up.
	ReasonCoolDown Reason = "CoolDown"
	// ReasonCrashLoop means that the group's Jobs keep failing, so that KEDA is asked
	// for fewer than the group should have.
	ReasonCrashLoop Reason = "CrashLoop"
)

// Reasons are all reasons.
func Reasons() []Reason {
	return []Reason{
		ReasonHold, ReasonScaleUp, ReasonScaleDown, ReasonBelowMin, ReasonSpare, ReasonQueue, ReasonFixed, ReasonAboveMax,
		ReasonRunnerLimit, ReasonCoolDown, ReasonCrashLoop,
	}
}

// Decision is how many runners a group should have, and why.
type Decision struct {
	// Desired is what the rules ask for now.
	Desired int
	// Effective is the highest number desired within the cool-down. It is the number
	// that is acted on.
	Effective int
	// Target is the number of unfinished Jobs that KEDA is asked to keep: Effective
	// plus the dead weight, at most max. If the group's Jobs keep failing it is at most
	// what there is and Observation.Tries.
	Target int
	// Reason is the rule that decided. Note explains it with its numbers.
	Reason Reason
	Note   string
	// Observation, Rules and Time are the inputs.
	Observation Observation
	Rules       Rules
	Time        time.Time
}

// Surplus returns how many online runners of the capacity are too many. Runners that
// are starting never count towards it. It never leaves fewer than min(Min, online)
// runners online and enabled.
func (d Decision) Surplus() int {
	o := d.Observation
	online := o.Idle + o.Busy + o.Unknown
	keep := max(d.Effective, min(d.Rules.Min, online))
	return max(0, online-keep)
}

// proposal is a number of runners and the rule that asks for it.
type proposal struct {
	runners int
	reason  Reason
	note    string
}

// Decide applies the rules to an observation at the time now. The window belongs to
// the group and records what was desired. A second call with the same arguments
// returns the same decision.
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
		p = proposal{room, ReasonRunnerLimit, fmt.Sprintf("%s, but of the scope's %d runners %d belong to others and %d are reserved for other groups", p.note, ScopeLimit, o.OtherRegistered, o.OtherReserved)}
	}
	d := Decision{Desired: p.runners, Effective: p.runners, Reason: p.reason, Note: p.note, Observation: o, Rules: rules, Time: now}
	// The window never raises a Fixed group, whose count is its ceiling. The number
	// is recorded so that the cool-down applies if the strategy changes.
	highest := window.record(p.runners, min(o.current(), ceiling, room), rules.CoolDown, now)
	if rules.Strategy == QueuedSteps {
		// The window keeps runners, and never asks for others: the steps that they were for
		// have ended.
		highest = max(p.runners, min(highest, o.current()))
	}
	if d.Effective = min(highest, ceiling, room); d.Effective > d.Desired {
		d.Reason = ReasonCoolDown
		d.Note = fmt.Sprintf("%s, but %d were desired within the last %v", p.note, d.Effective, rules.CoolDown)
	}
	wanted := d.Effective
	if most := o.Capacity() + o.Tries; o.CrashLoop != "" && wanted > most {
		wanted, d.Reason = most, ReasonCrashLoop
		d.Note = fmt.Sprintf("%d are wanted, but %s: %d more for now", d.Effective, o.CrashLoop, o.Tries)
	}
	d.Target = min(wanted+o.DeadWeight(), ceiling)
	return d
}

package policy

import (
	"fmt"
	"math"
)

// want returns what the strategy alone asks for.
func want(rules Rules, o Observation) proposal {
	switch rules.Strategy {
	case Fixed:
		return proposal{rules.Count, ReasonFixed, fmt.Sprintf("count is %d", rules.Count)}
	case QueuedSteps:
		return byQueue(rules, o)
	default:
		return byRatio(rules, o)
	}
}

// byQueue asks for one runner per busy runner and per step that waits or soon will. If not all
// of the queue can be seen, the ratio is the floor. While it is read for the first time, the
// group keeps what it has.
func byQueue(rules Rules, o Observation) proposal {
	// A step that has begun is on one of the runners that look idle, or on one of others.
	busy := o.Busy + min(o.Begun, o.Idle)
	// As in byRatio, unknown runners count as idle if the queue grows the group and as busy if
	// it shrinks the group.
	demand := busy + max(o.Queued+o.Predicted, o.Unknown)
	p := proposal{demand, ReasonQueue, fmt.Sprintf("%d busy%s, %d queued", busy, o.unknown(), o.Queued)}
	if o.QueuedFrom != "" {
		p.note += " (" + o.QueuedFrom + ")"
	}
	if o.Predicted > 0 {
		p.note += fmt.Sprintf(", %d predicted", o.Predicted)
	}
	p.note += fmt.Sprintf(": %d", demand)
	switch {
	case o.QueueUnknown != "":
		ratio := byRatio(rules, o)
		if ratio.runners > demand {
			ratio.note = fmt.Sprintf("%s; %s, because not all of the queue can be seen: %s", p.note, ratio.note, o.QueueUnknown)
			return ratio
		}
		p.note += "; not all of the queue can be seen: " + o.QueueUnknown
	case o.QueuePending && o.current() > demand:
		return proposal{o.current(), ReasonHold, p.note + fmt.Sprintf("; %d are kept until the queue is read", o.current())}
	}
	return p
}

// unknown mentions, for a note, the runners that its other numbers leave out.
func (o Observation) unknown() string {
	if o.Unknown == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d of unknown state)", o.Unknown)
}

// byRatio is the rule of Atlassian's runners-autoscaler. An unknown runner counts as
// idle in the check for scale-up and as busy in the check for scale-down, so that a
// restart neither grows nor shrinks a group.
func byRatio(rules Rules, o Observation) proposal {
	online, capacity := o.Online(), o.current()
	if online == 0 {
		return proposal{capacity, ReasonHold, fmt.Sprintf("none online, %d starting", capacity)}
	}
	busy := o.Busy + o.DrainingBusy
	up, down := float64(busy)/float64(online), float64(busy+o.Unknown)/float64(online)
	switch {
	case up > rules.ScaleUpThreshold:
		// Runners that leave are online, and part of the dead weight as well: they are
		// no part of the capacity that the group should have.
		leaving := o.DrainingBusy + o.Outdated
		scaled := ceil(float64(online)*rules.ScaleUpMultiplier) - leaving
		return proposal{max(scaled, capacity), ReasonScaleUp,
			fmt.Sprintf("busy %d of %d online is %.2f, above %.2f: ceil(%d × %g)%s = %d", busy, online, up, rules.ScaleUpThreshold, online, rules.ScaleUpMultiplier, minus(leaving), scaled)}
	case down < rules.ScaleDownThreshold:
		scaled := floor(float64(online) * rules.ScaleDownMultiplier)
		// The result must not exceed the capacity. Disabled runners with a step are
		// online too, so the product can be higher, and scale-down must not grow the
		// group.
		return proposal{max(min(scaled, capacity), o.Busy+o.Unknown), ReasonScaleDown,
			fmt.Sprintf("busy %d of %d online is %.2f, below %.2f: floor(%d × %g) = %d", busy+o.Unknown, online, down, rules.ScaleDownThreshold, online, rules.ScaleDownMultiplier, scaled)}
	}
	return proposal{capacity, ReasonHold, fmt.Sprintf("busy %d of %d online%s is neither above %.2f nor below %.2f", busy, online, o.unknown(), rules.ScaleUpThreshold, rules.ScaleDownThreshold)}
}

// minus is a note's part about runners that leave.
func minus(leaving int) string {
	if leaving == 0 {
		return ""
	}
	return fmt.Sprintf(" - %d leaving", leaving)
}

// roundingError bounds the difference between a product of two decimal settings in
// binary and the same product computed by hand: 50 × 1.1 is 55.00000000000001 in
// binary, and its ceiling must not be 56.
const roundingError = 1e-9

func ceil(x float64) int  { return int(math.Ceil(bounded(x) - roundingError)) }
func floor(x float64) int { return int(math.Floor(bounded(x) + roundingError)) }

// mostScaled is above every product of accepted settings.
const mostScaled = 1e6

// bounded limits a product to what an int can hold. The conversion of NaN and of huge
// numbers to int depends on the machine.
func bounded(x float64) float64 {
	if x > 0 {
		return min(x, mostScaled)
	}
	return 0
}

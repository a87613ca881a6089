package faults

import (
	"errors"
	"fmt"
	"time"
)

// Delivery injects a fault in the events that webhooks receive. If several match, the first that
// fires applies.
type Delivery struct {
	// Event is a glob for the event's key, such as repo:*. Empty means any.
	Event string `json:"event,omitempty"`
	// Probability and Count are those of a Rule.
	Probability float64 `json:"probability,omitempty"`
	Count       int     `json:"count,omitempty"`
	// Lost means that the event is not sent, and Doubled that it is sent twice.
	Lost    bool `json:"lost,omitempty"`
	Doubled bool `json:"doubled,omitempty"`
	// Late delays the event, for example "30s". Later ones overtake it.
	Late string `json:"late,omitempty"`
}

// Deliveries are the rules for events in force.
type Deliveries []*delivery

type delivery struct {
	Delivery
	late time.Duration
	left int
}

// NewDeliveries parses rules. The error lists all their faults.
func NewDeliveries(given []Delivery) (Deliveries, error) {
	rules := make(Deliveries, 0, len(given))
	var all []error
	for i, g := range given {
		d := &delivery{Delivery: g, left: g.Count}
		fault := bounds(g.Probability, g.Count)
		if g.Late != "" {
			var err error
			if d.late, err = time.ParseDuration(g.Late); err != nil || d.late < 0 || d.late > maxFaultTime {
				fault = errors.Join(fault, fmt.Errorf("late: %q, want a duration up to %s", g.Late, maxFaultTime))
			}
		}
		if fault != nil {
			all = append(all, fmt.Errorf("deliveries[%d]: %w", i, fault))
		}
		rules = append(rules, d)
	}
	return rules, errors.Join(all...)
}

// Take returns how often an event is sent and how much later, and counts it.
func (rules Deliveries) Take(event string) (times int, late time.Duration) {
	for _, d := range rules {
		if d.Event != "" && !glob(d.Event, event) || !fires(d.Probability, d.Count, &d.left) {
			continue
		}
		switch {
		case d.Lost:
			return 0, 0
		case d.Doubled:
			return 2, d.late
		}
		return 1, d.late
	}
	return 1, 0
}

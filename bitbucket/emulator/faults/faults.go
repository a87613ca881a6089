// Package faults decides which fault a rule injects in a request. The server carries it out.
package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// Rule injects a fault in the calls that it matches. If several rules match, the
// first that fires applies.
type Rule struct {
	// Method is the HTTP method. Empty means any.
	Method string `json:"method,omitempty"`
	// Path is a glob for the URL's path. * matches any characters, including slashes.
	// Empty means any path.
	Path string `json:"path,omitempty"`
	// Probability is the probability that it fires, up to 1. 0 means 1.
	Probability float64 `json:"probability,omitempty"`
	// Count is how many times it fires. 0 means no limit.
	Count int `json:"count,omitempty"`
	// Status is the status to answer, 200 to 599, without handling the call.
	Status int `json:"status,omitempty"`
	// Latency delays the call, for example "2s".
	Latency string `json:"latency,omitempty"`
	// DropAfterWrite handles the call and then closes the connection. With Status, it
	// answers that status instead.
	DropAfterWrite bool `json:"dropAfterWrite,omitempty"`
	// ApplyAfter answers a write at once and applies it after this time.
	ApplyAfter string `json:"applyAfter,omitempty"`
	// StaleFor makes lists of runners lag by this time, but not show a state from before
	// the rule was set. On other routes a GET is answered as the same call was answered at
	// least this time ago, if there was one since the rule was set.
	StaleFor string `json:"staleFor,omitempty"`
	// EmptyList makes lists empty.
	EmptyList bool `json:"emptyList,omitempty"`
	// HideStep omits state.step, as Options.HideStep does everywhere.
	HideStep bool `json:"hideStep,omitempty"`
	// Truncate closes the connection in the middle of the answer's body.
	Truncate bool `json:"truncate,omitempty"`
}

// Fault is a rule applied to one call.
type Fault struct {
	Rule
	// The durations of the rule.
	Latency, ApplyAfter, StaleFor time.Duration
}

// active is a rule in force.
type active struct {
	Fault
	left int // how often it still fires, if Count is given
}

// maxFaultTime bounds latency and lags, so that a mistake does not block a test for
// hours.
const maxFaultTime = 10 * time.Minute

// parse parses a rule. The error lists all its faults.
func parse(given Rule) (*active, error) {
	r := &active{Fault: Fault{Rule: given}, left: given.Count}
	var faults []error
	for _, d := range []struct {
		name, text string
		to         *time.Duration
	}{
		{"latency", given.Latency, &r.Latency}, {"applyAfter", given.ApplyAfter, &r.ApplyAfter}, {"staleFor", given.StaleFor, &r.StaleFor},
	} {
		if d.text == "" {
			continue
		}
		parsed, err := time.ParseDuration(d.text)
		if err != nil || parsed < 0 || parsed > maxFaultTime {
			faults = append(faults, fmt.Errorf("%s: %q, want a duration up to %s", d.name, d.text, maxFaultTime))
		}
		*d.to = parsed
	}
	if given.Status != 0 && (given.Status < http.StatusOK || given.Status > 599) {
		faults = append(faults, fmt.Errorf("status: %d, want 200 to 599", given.Status))
	}
	return r, errors.Join(append(faults, bounds(given.Probability, given.Count))...)
}

func bounds(probability float64, count int) error {
	var faults []error
	if probability < 0 || probability > 1 {
		faults = append(faults, fmt.Errorf("probability: %v, want 0 to 1", probability))
	}
	if count < 0 {
		faults = append(faults, fmt.Errorf("count: %d, want 0 or more", count))
	}
	return errors.Join(faults...)
}

// Rules are the rules in force.
type Rules []*active

// New parses rules. The error lists all their faults.
func New(given []Rule) (Rules, error) {
	rules := make(Rules, 0, len(given))
	var all []error
	for i, g := range given {
		r, err := parse(g)
		if err != nil {
			all = append(all, fmt.Errorf("rules[%d]: %w", i, err))
		}
		rules = append(rules, r)
	}
	return rules, errors.Join(all...)
}

// LongestLag returns the longest lag of lists.
func (rules Rules) LongestLag() time.Duration {
	var lag time.Duration
	for _, r := range rules {
		lag = max(lag, r.StaleFor)
	}
	return lag
}

// Take returns the first rule that fires for a request, and counts it.
func (rules Rules) Take(r *http.Request) Fault {
	for _, rule := range rules {
		if rule.Method != "" && !strings.EqualFold(rule.Method, r.Method) {
			continue
		}
		if rule.Path != "" && !glob(rule.Path, r.URL.Path) && !glob(rule.Path, r.URL.EscapedPath()) {
			continue
		}
		if fires(rule.Probability, rule.Count, &rule.left) {
			return rule.Fault
		}
	}
	return Fault{}
}

// fires reports whether a rule with these bounds fires, and counts it.
func fires(probability float64, count int, left *int) bool {
	if count > 0 && *left == 0 {
		return false
	}
	if probability > 0 && rand.Float64() >= probability { //nolint:gosec // random, but not a secret
		return false
	}
	*left--
	return true
}

// glob reports whether a pattern matches the whole text. * matches any characters.
func glob(pattern, text string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	if !strings.HasPrefix(text, head) {
		return false
	}
	text = text[len(head):]
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	for _, part := range parts[:len(parts)-1] {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return strings.HasSuffix(text, last)
}

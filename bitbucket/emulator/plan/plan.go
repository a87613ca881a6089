// Package plan decides how steps go in the emulator: how long they take, how they end, and
// whether their conditions hold. Without a plan a step takes as long as the sleeps of its script
// and passes.
package plan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/condition"
)

// The results of steps.
const (
	Passed = "PASSED"
	Failed = "FAILED"
	// Error is a failure that is neither retried nor ignored.
	Error = "ERROR"
)

// Plan is how steps go.
type Plan struct {
	// Duration is how long steps take that have no sleep, such as "30s". Default 0s.
	Duration string `json:"duration,omitempty"`
	// Rules are for some steps. For each of duration, result and condition the first rule that
	// matches and has it decides.
	Rules []Rule `json:"rules,omitempty"`
}

// Rule is how some steps go.
type Rule struct {
	// Repository is a pattern of workspace/repository, by slugs. Empty means any.
	Repository string `json:"repository,omitempty"`
	// Step is a pattern of names of steps, and for conditions also of stages. A star does not
	// match a slash, two stars do. Empty means any.
	Step string `json:"step,omitempty"`
	// Duration replaces that of the script.
	Duration string `json:"duration,omitempty"`
	// Result is PASSED, FAILED or ERROR.
	Result string `json:"result,omitempty"`
	// Probability is that of the result, up to 1. 0 means 1.
	Probability float64 `json:"probability,omitempty"`
	// Count is how often the result applies, so that a retry can succeed. 0 means always.
	Count int `json:"count,omitempty"`
	// Condition is whether the condition of the step holds. Without it the variables and the
	// changed files decide, and if they cannot, it holds.
	Condition *bool `json:"condition,omitempty"`
}

// rule is a rule in force.
type rule struct {
	Rule
	duration time.Duration
	left     int
}

// Rules are a plan in force. The zero Rules are no plan.
type Rules struct {
	duration time.Duration
	rules    []*rule
}

// maxDuration bounds how long a step takes.
const maxDuration = 24 * time.Hour

func parse(field, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxDuration {
		return 0, fmt.Errorf("%s: %q, want a duration such as 30s, up to %s", field, text, maxDuration)
	}
	return d, nil
}

// New reads a plan. The error lists all its faults.
func New(given Plan) (Rules, error) {
	var all []error
	var rules Rules
	var err error
	if rules.duration, err = parse("duration", given.Duration); err != nil {
		all = append(all, err)
	}
	for i, g := range given.Rules {
		r := &rule{Rule: g, left: g.Count}
		var faults []error
		if r.duration, err = parse("duration", g.Duration); err != nil {
			faults = append(faults, err)
		}
		if !slices.Contains([]string{"", Passed, Failed, Error}, g.Result) {
			faults = append(faults, fmt.Errorf("result: %q, want %s, %s or %s", g.Result, Passed, Failed, Error))
		}
		if g.Probability < 0 || g.Probability > 1 {
			faults = append(faults, fmt.Errorf("probability: %v, want 0 to 1", g.Probability))
		}
		if g.Count < 0 {
			faults = append(faults, fmt.Errorf("count: %d, want 0 or more", g.Count))
		}
		if err := errors.Join(faults...); err != nil {
			all = append(all, fmt.Errorf("rules[%d]: %w", i, err))
		}
		rules.rules = append(rules.rules, r)
	}
	return rules, errors.Join(all...)
}

func (r *rule) matches(repository, step string) bool {
	return (r.Repository == "" || condition.Match(r.Repository, repository)) &&
		(r.Step == "" || strings.EqualFold(r.Step, step) || condition.Match(r.Step, step))
}

// Duration returns how long a step takes whose script sleeps for a time, or not at all.
func (rs Rules) Duration(repository, step string, script time.Duration, sleeps bool) time.Duration {
	for _, r := range rs.rules {
		if r.Duration != "" && r.matches(repository, step) {
			return r.duration
		}
	}
	if sleeps {
		return script
	}
	return rs.duration
}

// Result returns how a step that starts now will end, and counts it.
func (rs Rules) Result(repository, step string) string {
	for _, r := range rs.rules {
		if r.Result == "" || !r.matches(repository, step) || r.Count > 0 && r.left == 0 {
			continue
		}
		if r.Probability > 0 && rand.Float64() >= r.Probability { //nolint:gosec // random, but not a secret
			continue
		}
		r.left--
		return r.Result
	}
	return Passed
}

// Condition returns whether the condition of a step or stage holds, and whether the plan says so.
func (rs Rules) Condition(repository, step string) (holds, given bool) {
	for _, r := range rs.rules {
		if r.Condition != nil && r.matches(repository, step) {
			return *r.Condition, true
		}
	}
	return false, false
}

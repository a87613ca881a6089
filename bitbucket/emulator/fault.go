package emulator

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// fault is a rule applied to one call.
type fault struct {
	FaultRule
	latency, applyAfter, staleFor time.Duration
}

// rule is a fault rule in force.
type rule struct {
	fault
	left int // how often it still fires, if Count is given
}

// maxFaultTime bounds latency and lags, so that a mistake does not block a test for
// hours.
const maxFaultTime = 10 * time.Minute

// newRule parses a rule. The error lists all its faults.
func newRule(given FaultRule) (*rule, error) {
	r := &rule{fault: fault{FaultRule: given}, left: given.Count}
	var faults []error
	for _, d := range []struct {
		name, text string
		to         *time.Duration
	}{
		{"latency", given.Latency, &r.latency}, {"applyAfter", given.ApplyAfter, &r.applyAfter}, {"staleFor", given.StaleFor, &r.staleFor},
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
	if given.Probability < 0 || given.Probability > 1 {
		faults = append(faults, fmt.Errorf("probability: %v, want 0 to 1", given.Probability))
	}
	if given.Count < 0 {
		faults = append(faults, fmt.Errorf("count: %d, want 0 or more", given.Count))
	}
	return r, errors.Join(faults...)
}

func (s *Server) setFaults(c *call) answer {
	var given FaultRules
	if refusal, ok := decodeStrict(c.body, &given); !ok {
		return refusal
	}
	rules := make([]*rule, 0, len(given.Rules))
	var faults []error
	for i, g := range given.Rules {
		r, err := newRule(g)
		if err != nil {
			faults = append(faults, fmt.Errorf("rules[%d]: %w", i, err))
		}
		rules = append(rules, r)
	}
	if err := errors.Join(faults...); err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	s.rules = rules
	s.keepHistory(c.now)
	return noContent()
}

// takeFault returns the first rule that fires for a request, and counts it.
func (s *Server) takeFault(r *http.Request) fault {
	for _, rule := range s.rules {
		if rule.Count > 0 && rule.left == 0 {
			continue
		}
		if rule.Method != "" && !strings.EqualFold(rule.Method, r.Method) {
			continue
		}
		if rule.Path != "" && !glob(rule.Path, r.URL.Path) && !glob(rule.Path, r.URL.EscapedPath()) {
			continue
		}
		if rule.Probability > 0 && rand.Float64() >= rule.Probability { //nolint:gosec // random, but not a secret
			continue
		}
		rule.left--
		return rule.fault
	}
	return fault{}
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

// lateWrite is a write that was answered but not applied yet.
type lateWrite struct {
	at   time.Time
	done func(now time.Time)
}

// commit applies a write now, or at the time given by its fault.
func (s *Server) commit(c *call, write func(now time.Time)) {
	if c.fault.applyAfter <= 0 {
		write(c.now)
		return
	}
	late := lateWrite{at: c.now.Add(c.fault.applyAfter), done: write}
	i := len(s.late)
	for i > 0 && s.late[i-1].at.After(late.at) {
		i--
	}
	s.late = append(s.late[:i], append([]lateWrite{late}, s.late[i:]...)...)
}

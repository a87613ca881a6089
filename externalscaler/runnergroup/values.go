package runnergroup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bitbucket-runner-scaler/externalscaler/policy"
)

// isPlace reports whether s is a slug or {uuid}. It refuses "." and "..", which would
// change the path of a request to Bitbucket.
func isPlace(s string) bool {
	return uuid.MatchString(s) || slug.MatchString(s) && s != "." && s != ".."
}

func (p *parser) place(key string) string {
	value := p.values[key]
	if value != "" && !isPlace(value) {
		p.fault(key, value, "a slug, or a {uuid} in braces")
	}
	return value
}

func (p *parser) labels() []string {
	var labels []string
	for l := range strings.SplitSeq(p.values[keyLabels], ",") {
		switch l = strings.TrimSpace(l); {
		case l == "", l == selfHosted, l == p.text(keyOS): // registered anyway
		case !label.MatchString(l) || len(l) > maxLabel:
			p.fault(keyLabels, l, fmt.Sprintf("lower-case letters, digits and dots, at most %d", maxLabel))
		case slices.Contains(systemLabels, l):
			p.fault(keyLabels, l, "the label of the group's os, which is "+p.text(keyOS)+", or none")
		case strings.HasPrefix(l, reservedRoot):
			p.fault(keyLabels, l, "no label that begins with "+reservedRoot+", which is reserved for the scaler")
		default:
			labels = append(labels, l)
		}
	}
	slices.Sort(labels)
	labels = slices.Compact(labels)
	switch given := p.values[keyLabels]; {
	case len(labels) > maxLabels:
		p.fault(keyLabels, given, fmt.Sprintf("at most %d custom labels, of which there are %d: Bitbucket allows %d, and the scaler adds one", maxLabels, len(labels), maxLabels+1))
	case len(labels) == 0 && given == "":
		p.fault(keyLabels, "", fmt.Sprintf("missing, want 1 to %d custom labels, comma separated", maxLabels))
	case len(labels) == 0 && !p.blamed(keyLabels):
		p.fault(keyLabels, given, "a custom label too: every runner has these")
	}
	return labels
}

func (p *parser) count(key string) int {
	value := p.text(key)
	n, err := strconv.Atoi(value)
	if err != nil || !whole.MatchString(value) || n > policy.ScopeLimit {
		p.fault(key, value, fmt.Sprintf("a whole number from 0 to %d", policy.ScopeLimit))
	}
	return n
}

func (p *parser) fraction(key string, accepted func(float64) bool, form string) float64 {
	value := p.text(key)
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || !decimal.MatchString(value) || !accepted(f) {
		p.fault(key, value, form)
	}
	return f
}

func (p *parser) duration(key string) time.Duration {
	value := p.text(key)
	d, err := time.ParseDuration(value)
	if whole.MatchString(value) {
		d, err = time.ParseDuration(value + "s")
	}
	if err != nil || d < 0 || value[0] == '+' || d > maxDuration {
		p.fault(key, value, "a duration such as 300s, 5m or 24h, or bare seconds, at most 720h")
	}
	return d
}

func (p *parser) boolean(key string) bool {
	value := p.text(key)
	if value != "true" && value != "false" {
		p.fault(key, value, "true or false")
	}
	return value == "true"
}

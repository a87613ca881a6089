// Package registration is Bitbucket's rules for runners' names and labels: which
// registrations it accepts, and which runners a step can run on.
package registration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxName         = 50
	maxLabel        = 50
	maxCustomLabels = 10
	labelSelfHosted = "self.hosted"
	platformLinux   = "linux"
)

// Registration is the body of POST …/runners.
type Registration struct {
	UUID   string   `json:"uuid"`
	Name   string   `json:"name"`
	Labels []string `json:"labels"`
}

var (
	uuidPattern = regexp.MustCompile(`^\{[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}$`)
	label       = regexp.MustCompile(`^[a-z0-9.]+$`)
	// platforms are the labels of which a runner has exactly one.
	platforms = []string{platformLinux, "linux.arm64", "linux.shell", "windows", "macos"}
)

// Faults returns the faults of a registration, by field.
func (g Registration) Faults() map[string][]string {
	fields := map[string][]string{}
	add := func(field, format string, args ...any) {
		fields[field] = append(fields[field], fmt.Sprintf(format, args...))
	}
	if g.UUID != "" && !uuidPattern.MatchString(g.UUID) {
		add("uuid", "%q is not a UUID in braces.", g.UUID)
	}
	if n := utf8.RuneCountInString(g.Name); strings.TrimSpace(g.Name) == "" || n > maxName {
		add("name", "The name must have 1 to %d characters, got %d.", maxName, n)
	}
	if len(g.Labels) == 0 {
		add("labels", "At least one label is required.")
	}
	custom := 0
	for _, l := range g.Labels {
		if !IsLabel(l) || len(l) > maxLabel {
			add("labels", "%q may only have lower-case letters, digits and dots, and at most %d characters.", l, maxLabel)
		}
		if l != labelSelfHosted && !slices.Contains(platforms, l) {
			custom++
		}
	}
	if !slices.Contains(g.Labels, labelSelfHosted) {
		add("labels", "The label %s is required.", labelSelfHosted)
	}
	if n := g.platforms(); n != 1 {
		add("labels", "Exactly one platform label is required, one of %s, got %d.", strings.Join(platforms, ", "), n)
	}
	if custom > maxCustomLabels {
		add("labels", "At most %d custom labels are allowed, got %d.", maxCustomLabels, custom)
	}
	return fields
}

func (g Registration) platforms() int {
	n := 0
	for _, l := range g.Labels {
		if isPlatform(l) {
			n++
		}
	}
	return n
}

// Complete adds the labels that every runner has.
func (g *Registration) Complete() {
	if g.platforms() == 0 {
		g.Labels = append([]string{platformLinux}, g.Labels...)
	}
	if !slices.Contains(g.Labels, labelSelfHosted) {
		g.Labels = append([]string{labelSelfHosted}, g.Labels...)
	}
}

// IsLabel reports whether a text has the form of a label.
func IsLabel(text string) bool { return label.MatchString(text) }

func isPlatform(label string) bool { return slices.Contains(platforms, label) }

// Serves reports whether a runner has all the labels of a step. A step that names no
// platform wants linux.
func Serves(runner, step []string) bool {
	for _, l := range step {
		if !slices.Contains(runner, l) {
			return false
		}
	}
	return slices.ContainsFunc(step, isPlatform) || slices.Contains(runner, platformLinux)
}

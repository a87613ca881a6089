// Package runnergroup reads a runner group from the metadata of a ScaledJob's
// trigger: which runners, how many, by which rules. Every fault of the metadata
// is found at once. What the numbers mean is in package policy.
package runnergroup

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"bitbucket-runner-scaler/externalscaler/policy"
)

// Group is a runner group as its trigger describes it.
type Group struct {
	// Workspace and Repository are slugs or {uuid}s; Repository is empty where the
	// runners are the workspace's.
	Workspace, Repository string
	// Labels are the custom ones, sorted, each once.
	Labels []string
	// OS is linux or linux.arm64.
	OS    string
	Rules policy.Rules
	// MaxAge is the age from which an idle runner is replaced; 0 never.
	MaxAge time.Duration
	// Repositories are always looked at for queued steps.
	Repositories []string
	// Credentials names a credentials set.
	Credentials string
}

// Fault is one thing wrong with the metadata.
type Fault struct {
	// Key as given; Given is the value, shortened; Accepted what would be right.
	Key, Given, Accepted string
}

func (f Fault) String() string {
	if f.Given == "" {
		return fmt.Sprintf("%s: %s", f.Key, f.Accepted)
	}
	return fmt.Sprintf("%s: %s, want %s", f.Key, f.Given, f.Accepted)
}

// maxTold is how many faults a message tells: it travels in a header of a gRPC
// response, and 64 KiB of commas could make thousands.
const maxTold = 30

// InvalidError lists every fault of a trigger's metadata, in the order of keys.
type InvalidError struct{ Faults []Fault }

func (e *InvalidError) Error() string {
	texts := make([]string, 0, maxTold+1)
	for _, fault := range e.Faults[:min(len(e.Faults), maxTold)] {
		texts = append(texts, fault.String())
	}
	if more := len(e.Faults) - maxTold; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return "invalid trigger metadata: " + strings.Join(texts, "; ")
}

// RunnerLabels are the labels that the group's runners are registered with,
// sorted: the custom ones, self.hosted, the operating system's, and the owner's.
func (g Group) RunnerLabels(owner string) []string {
	labels := append([]string{"self.hosted", g.OS, owner}, g.Labels...)
	slices.Sort(labels)
	return labels
}

// Equal reports whether two groups are the same in all that a trigger says.
func (g Group) Equal(other Group) bool {
	return g.Workspace == other.Workspace && g.Repository == other.Repository && g.OS == other.OS &&
		g.Rules == other.Rules && g.MaxAge == other.MaxAge && g.Credentials == other.Credentials &&
		slices.Equal(g.Labels, other.Labels) && slices.Equal(g.Repositories, other.Repositories)
}

// SameRunners reports whether two groups would claim the same runners: equal
// labels and operating system, in a scope that the caller knows to be the same.
func (g Group) SameRunners(other Group) bool {
	return g.OS == other.OS && slices.Equal(g.Labels, other.Labels)
}

// Metadata is the trigger's metadata for the group, with the defaults left out:
// Parse gives the group again.
func (g Group) Metadata() map[string]string {
	r := g.Rules
	given := map[string]string{
		keyWorkspace: g.Workspace, keyRepository: g.Repository, keyLabels: strings.Join(g.Labels, ","),
		keyOS: g.OS, keyStrategy: string(r.Strategy), keyCoolDown: r.CoolDown.String(), keyMaxAge: g.MaxAge.String(),
		keyRepositories: strings.Join(g.Repositories, ","), keyCredentials: g.Credentials,
		keyEphemeral: strconv.FormatBool(r.Ephemeral),
	}
	if r.Strategy == policy.Fixed {
		given[keyCount] = strconv.Itoa(r.Count)
	} else {
		given[keyMin], given[keyMax], given[keySpare] = strconv.Itoa(r.Min), strconv.Itoa(r.Max), strconv.Itoa(r.Spare)
		given[keyScaleUpThreshold], given[keyScaleDownThreshold] = number(r.ScaleUpThreshold), number(r.ScaleDownThreshold)
		given[keyScaleUpMultiplier], given[keyScaleDownMultiplier] = number(r.ScaleUpMultiplier), number(r.ScaleDownMultiplier)
	}
	left := maps.Clone(defaults)
	if r.Ephemeral {
		left[keySpare] = "1"
	}
	left[keyCoolDown], left[keyMaxAge] = defaultCoolDown.String(), defaultMaxAge.String()
	maps.DeleteFunc(given, func(key, value string) bool { return value == left[key] })
	return given
}

// number never uses an exponent, which Parse refuses.
func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

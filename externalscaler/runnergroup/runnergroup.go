// Package runnergroup parses a runner group from the metadata of a ScaledJob's
// trigger: which runners, how many, and by which rules. It reports all faults of the
// metadata at once. Package policy defines what the numbers mean.
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
	// Workspace and Repository are slugs or {uuid}s. Repository is empty if the
	// runners belong to the workspace.
	Workspace, Repository string
	// Labels are the custom labels, sorted and without duplicates.
	Labels []string
	// OS is linux, linux.arm64, or linux.shell for runners that need no Docker.
	OS string
	// Rules are those in force: outside of all windows or, after At, at a time.
	Rules policy.Rules
	// Windows are the time windows with rules of their own. Open describes those that are open;
	// empty if none is.
	Windows []Window
	Open    string
	// Written are the rules outside of all windows, once Rules are those at a time; else nil.
	Written *policy.Rules
	// MaxAge is the age at which an idle runner is replaced; 0 means never.
	MaxAge time.Duration
	// Repositories are always searched for queued steps.
	Repositories []string
	// LookAhead is how long before a step will wait it counts already.
	LookAhead time.Duration
	// Credentials names a credentials set.
	Credentials string
}

// Fault is one fault of the metadata.
type Fault struct {
	// Key is the key as it was given. Given is the value, shortened. Accepted
	// describes the accepted values.
	Key, Given, Accepted string
}

func (f Fault) String() string {
	if f.Given == "" {
		return fmt.Sprintf("%s: %s", f.Key, f.Accepted)
	}
	return fmt.Sprintf("%s: %s, want %s", f.Key, f.Given, f.Accepted)
}

// maxReported is the maximum number of faults in an error text. The text is sent in a
// header of a gRPC response, and 64 KiB of commas could cause thousands of faults.
const maxReported = 30

// InvalidError lists all faults of a trigger's metadata, sorted by key.
type InvalidError struct{ Faults []Fault }

func (e *InvalidError) Error() string {
	texts := make([]string, 0, maxReported+1)
	for _, fault := range e.Faults[:min(len(e.Faults), maxReported)] {
		texts = append(texts, fault.String())
	}
	if more := len(e.Faults) - maxReported; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return "invalid trigger metadata: " + strings.Join(texts, "; ")
}

// RunnerLabels returns the labels that the group's runners are registered with,
// sorted: the custom labels, self.hosted, the operating system's and the owner's.
func (g Group) RunnerLabels(owner string) []string {
	labels := append([]string{selfHosted, g.OS, owner}, g.Labels...)
	slices.Sort(labels)
	return labels
}

// Equal reports whether two groups are written the same, whatever the time.
func (g Group) Equal(other Group) bool {
	return g.Workspace == other.Workspace && g.Repository == other.Repository && g.OS == other.OS &&
		g.base() == other.base() && slices.EqualFunc(g.Windows, other.Windows, Window.Equal) && g.MaxAge == other.MaxAge && g.LookAhead == other.LookAhead && g.Credentials == other.Credentials &&
		slices.Equal(g.Labels, other.Labels) && slices.Equal(g.Repositories, other.Repositories)
}

// SameRunners reports whether two groups of the same scope would claim the same
// runners, that is, have equal labels and operating systems. The caller checks the
// scope.
func (g Group) SameRunners(other Group) bool {
	return g.OS == other.OS && slices.Equal(g.Labels, other.Labels)
}

// Metadata returns the trigger's metadata for the group, without keys that have their
// default. Parse of the result returns the same group.
func (g Group) Metadata() map[string]string {
	r := g.base()
	given := map[string]string{
		keyWorkspace: g.Workspace, keyRepository: g.Repository, keyLabels: strings.Join(g.Labels, ","),
		keyOS: g.OS, keyStrategy: string(r.Strategy), keyCoolDown: r.CoolDown.String(), keyMaxAge: g.MaxAge.String(),
		keyRepositories: strings.Join(g.Repositories, ","), keyLookAhead: g.LookAhead.String(), keyCredentials: g.Credentials,
		keyEphemeral: strconv.FormatBool(r.Ephemeral), keySchedules: schedulesText(g.Windows),
	}
	if r.Strategy == policy.Fixed {
		given[keyCount] = strconv.Itoa(r.Count)
	} else {
		given[keyMin], given[keyMax], given[keySpare] = strconv.Itoa(r.Min), strconv.Itoa(r.Max), strconv.Itoa(r.Spare)
		given[keyScaleUpThreshold], given[keyScaleDownThreshold] = number(r.ScaleUpThreshold), number(r.ScaleDownThreshold)
		given[keyScaleUpMultiplier], given[keyScaleDownMultiplier] = number(r.ScaleUpMultiplier), number(r.ScaleDownMultiplier)
	}
	omitted := maps.Clone(defaults)
	if r.Ephemeral {
		omitted[keySpare] = "1"
	}
	omitted[keyCoolDown], omitted[keyMaxAge] = defaultCoolDown.String(), defaultMaxAge.String()
	maps.DeleteFunc(given, func(key, value string) bool { return value == omitted[key] })
	return given
}

// number formats a number without an exponent, which Parse refuses.
func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

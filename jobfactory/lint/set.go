package lint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/credentials"
)

// maxRegistered is Bitbucket's limit of runners in a workspace or repository.
const maxRegistered = 100

// callsOfALife are the calls that a runner costs: registration, disabling, deletion.
const callsOfALife = 3

// setRules look at all ScaledJobs together.
func setRules() []entry {
	return []entry{
		{Rule: Rule{"overlapping-labels", Error, "two groups of one scope whose runners Bitbucket cannot tell apart (equal labels), so that the younger is refused", "give each group a label of its own"}, all: overlapping},
		{Rule: Rule{"labels-subset", Warning, "a group whose labels are all another's of its scope too: steps meant for it may go to the other", "give the smaller group a label that the other has not"}, all: subset},
		{Rule: Rule{"scope-limit", Error, "more than 100 runners in a workspace or repository over all groups: Bitbucket registers no more", "lower the groups' `max`"}, all: scopeLimit},
		{Rule: Rule{"hourly-budget", Error, "more calls an hour than a credentials set has", "raise the poll interval or `maxAge`, lower `max`, or spread the groups over several sets"}, all: hourlyBudget},
		{Rule: Rule{"missing-credentials", Error, "a credentials set that is not there, is not usable, or does not serve the namespace (with --credentials-dir)", "make the set, or add the namespace to its key `namespaces`"}, all: missingCredentials},
	}
}

// scope is a workspace or repository; slugs are compared without case, since a
// file cannot tell which UUID they stand for.
func (j *job) scope() string {
	scope := j.group.Workspace
	if j.group.Repository != "" {
		scope += "/" + j.group.Repository
	}
	return strings.ToLower(scope)
}

// pairs calls f with any two valid groups of one scope.
func pairs(jobs []*job, f func(a, b *job)) {
	for i, b := range jobs {
		for _, a := range jobs[:i] {
			// One ScaledJob in two inputs is no second group.
			if a.invalid == nil && b.invalid == nil && a.scope() == b.scope() && a.id() != b.id() {
				f(a, b)
			}
		}
	}
}

func overlapping(jobs []*job, _ Options, add reportAt) {
	pairs(jobs, func(a, b *job) {
		if a.group.SameRunners(b.group) {
			add(b, fmt.Sprintf("labels %s in %s are those of %s (%s)", strings.Join(b.group.Labels, ","), b.scope(), a.id(), a.file), b.metadata("labels")...)
		}
	})
}

func subset(jobs []*job, _ Options, add reportAt) {
	within := func(small, large *job) {
		if small.group.OS != large.group.OS || len(small.group.Labels) >= len(large.group.Labels) {
			return
		}
		for _, label := range small.group.Labels {
			if !slices.Contains(large.group.Labels, label) {
				return
			}
		}
		add(small, fmt.Sprintf("labels %s in %s are all labels of %s (%s) too", strings.Join(small.group.Labels, ","), small.scope(), large.id(), large.file), small.metadata("labels")...)
	}
	pairs(jobs, func(a, b *job) {
		within(a, b)
		within(b, a)
	})
}

// grouped are the distinct valid groups by a key, in the order of keys.
func grouped(jobs []*job, key func(*job) string, f func(key string, jobs []*job)) {
	by, seen := map[string][]*job{}, map[string]bool{}
	for _, j := range jobs {
		if j.invalid == nil && !seen[j.id()] {
			seen[j.id()] = true
			by[key(j)] = append(by[key(j)], j)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(by)) {
		f(k, by[k])
	}
}

func scopeLimit(jobs []*job, _ Options, add reportAt) {
	grouped(jobs, (*job).scope, func(scope string, jobs []*job) {
		sum := 0
		for _, j := range jobs {
			sum += j.group.Rules.MaxRunners()
		}
		if sum > maxRegistered {
			last := jobs[len(jobs)-1]
			add(last, fmt.Sprintf("%d runners in %s over %d groups, want at most %d", sum, scope, len(jobs), maxRegistered), last.metadata("max")...)
		}
	})
}

// hourlyBudget adds up one list a scope and interval, and the lives of runners: an
// ephemeral one's is an assumption, another's ends at maxAge at the latest.
func hourlyBudget(jobs []*job, options Options, add reportAt) {
	set := func(j *job) string { return cmp.Or(j.group.Credentials, credentials.Default) }
	grouped(jobs, set, func(name string, jobs []*job) {
		scopes := map[string]bool{}
		var lives float64
		for _, j := range jobs {
			scopes[j.scope()] = true
			life := j.group.MaxAge
			if j.group.Rules.Ephemeral {
				life = options.EphemeralLife
			}
			if life > 0 {
				lives += float64(j.group.Rules.MaxRunners()) * time.Hour.Hours() / life.Hours()
			}
		}
		lists := float64(len(scopes)) * time.Hour.Seconds() / options.PollInterval.Seconds()
		if need := lists + callsOfALife*lives; need > float64(options.HourlyBudget) {
			last := jobs[len(jobs)-1]
			add(last, fmt.Sprintf("credentials %q need %.0f calls an hour (%.0f lists of %d scopes, %d for each of %.0f runners), and have %d",
				name, need, lists, len(scopes), callsOfALife, lives, options.HourlyBudget), last.metadata("credentials")...)
		}
	})
}

func missingCredentials(jobs []*job, options Options, add reportAt) {
	if options.CredentialsDir == "" {
		return
	}
	store := credentials.NewStore(options.CredentialsDir, func(string) (string, bool) { return "", false },
		func(string, bitbucket.Credentials) (*bitbucket.Client, error) { return nil, nil }) //nolint:nilnil // nothing is called: that the set can be read is the answer
	for _, j := range jobs {
		if j.invalid != nil {
			continue
		}
		if _, err := store.Client(cmp.Or(j.group.Credentials, credentials.Default), j.Namespace); err != nil {
			add(j, err.Error(), j.metadata("credentials")...)
		}
	}
}
